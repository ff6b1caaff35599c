"""What a measure is when little else happens: the samples that met the fewest other requests.

Keeps a few, and replaces the least calm one by each that is not less calm; so it is never older
than the last quiet time, and a crowd does not touch it.
"""

from __future__ import annotations

from typing import Final

NUM_KEPT: Final = 16
MIN_KEPT: Final = 5
RANK: Final = 0.75
"""The quantile that counts. Above the middle, so that even 4 in 10 prompts that were cached
against expectation do not make the others look slow."""


class Calmest:
    """Of one kind of request."""

    __slots__ = ("_next", "_samples", "_worst", "expected_s", "is_known")

    def __init__(self) -> None:
        self._samples: list[tuple[int, int, float]] = []
        """(in flight, minus its number, seconds): the greatest is the least calm, oldest first."""
        self._next = 0
        self._worst: tuple[int, int, float] | None = None
        self.is_known = False
        self.expected_s = 0.0

    def add(self, in_flight: int, seconds: float) -> None:
        """Take a sample; nothing happens if calmer ones are known."""
        worst = self._worst
        if worst is not None:
            if in_flight > worst[0]:
                return
            self._samples.remove(worst)
        self._next += 1
        self._samples.append((in_flight, -self._next, seconds))
        if len(self._samples) == NUM_KEPT:
            self._worst = max(self._samples)
        times = sorted([sample[2] for sample in self._samples])
        self.expected_s = times[int(RANK * len(times))]
        self.is_known = len(times) >= MIN_KEPT
