"""Which of the scored endpoints wins: the best, one of two at random, or a draw by lots."""

from __future__ import annotations

from .profile import Picker, Rng


class Best(Picker):
    """The highest score; among equals, or within `tolerance` of it relative to its size, by lot."""

    def __init__(self, *, tolerance: float = 0.0) -> None:
        if tolerance < 0:
            raise ValueError(f"tolerance must be 0 or more, got {tolerance}")
        self.tolerance = tolerance

    def pick(self, values: list[float], rng: Rng) -> int:
        best = values[0]
        for value in values:
            if value > best:
                best = value
        threshold = best - self.tolerance * abs(best)
        tied = []
        for place, value in enumerate(values):
            if value >= threshold:
                tied.append(place)
        return tied[0] if len(tied) == 1 else tied[int(rng.random() * len(tied))]


class BestOfTwo(Picker):
    """The better of two drawn at random (Mitzenmacher, "The Power of Two Choices", 2001).

    Old load figures send no herd to the one that looked best: not everybody sees it.
    """

    def pick(self, values: list[float], rng: Rng) -> int:
        number = len(values)
        first = int(rng.random() * number)
        second = int(rng.random() * (number - 1))
        if second >= first:
            second += 1
        # The first of the two on a tie: it is as random as the second.
        return second if values[second] > values[first] else first


class Lots(Picker):
    """By lot, each with its score as the number of lots; scores must not be negative."""

    def pick(self, values: list[float], rng: Rng) -> int:
        left = rng.random() * sum(values)
        for place, value in enumerate(values):
            left -= value
            if left < 0:
                return place
        return len(values) - 1
