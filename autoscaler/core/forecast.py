"""How wrong forecasts have been: the width of the band around the next one.

Every forecast is kept until its time comes and held against what came. Errors are counted in units
of chance: 1 is what a Poisson process of the expected rate makes by itself. The band is as wide as
a given share of the errors of late, so it is honest: near 1 for a steady load, wide for bursts that
nobody can foresee.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from math import sqrt
from statistics import NormalDist

MEMORY_S = 1800.0
PRIOR_ERRORS, PRIOR_SPREAD = 20, 2.5
"""So many errors, so wide, count until there are others: what is not known yet may be bad."""
LEAST_RATE = 0.2
"""Requests per second that are expected at the least, in the unit of an error."""


class ForecastErrors:
    """Of forecasts over one horizon; `share` of the errors stay within the band."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._chance = max(NormalDist().inv_cdf(share), 0.1)
        """Where the share would be, if all were chance."""
        self._open: deque[tuple[float, float]] = deque()
        """(when, expected)."""
        self._errors: deque[tuple[float, float]] = deque()
        """(when it was known, error), oldest first."""
        self._sorted: list[float] = []

    def expect(self, when: float, rate: float) -> None:
        """A forecast for a time; times may come in any order, and are asked for in that order."""
        self._open.append((when, rate))

    def came(self, now: float, interval_s: float, count: float) -> None:
        """Settles the forecasts for times up to now."""
        while self._open and self._open[0][0] <= now:
            _, expected = self._open.popleft()
            error = (count / interval_s - expected) / sqrt(max(expected, LEAST_RATE) / interval_s)
            self._errors.append((now, error))
            insort(self._sorted, error)
        while self._errors and self._errors[0][0] <= now - MEMORY_S:
            _, error = self._errors.popleft()
            self._sorted.remove(error)

    @property
    def spread(self) -> float:
        """Width of the band in units of chance, at least 1."""
        number = len(self._sorted)
        seen = self._sorted[min(int(self._share * number), number - 1)] if number else 0.0
        prior = PRIOR_ERRORS * PRIOR_SPREAD * self._chance
        mean = (prior + number * seen) / (PRIOR_ERRORS + number)
        return max(mean / self._chance, 1.0)
