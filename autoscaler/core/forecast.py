"""What will come when a replica ordered now is ready, and how wrong such forecasts have been.

Every forecast is kept until its time comes and held against what came. The margin on top of the
next one is the error that forecasts of late have stayed below with a given probability: an honest
band, wide for a load that nobody can foresee and narrow for a steady one.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from math import sqrt

MEMORY_S = 3600.0
"""Errors of the last hour count."""
PRIOR_ERRORS = 20
PRIOR_ERROR = 0.5
"""Counts as so many errors until there are others."""


class ForecastErrors:
    """Errors of forecasts over one horizon, in units of sqrt(expected + 1): the scale on which
    counts vary, so that what is learnt at one rate holds at others, a rate of 0 among them."""

    def __init__(self) -> None:
        self._open: deque[tuple[float, float]] = deque()
        """(when, expected)."""
        self._errors: deque[tuple[float, float]] = deque()
        """(when it was known, error), oldest first."""
        self._sorted: list[float] = []

    def expect(self, when: float, rate: float) -> None:
        """A forecast for a time; times may come in any order, and are asked for in that order."""
        self._open.append((when, rate))

    def came(self, now: float, rate: float) -> None:
        """What came of late: settles the forecasts for times up to now."""
        while self._open and self._open[0][0] <= now:
            _, expected = self._open.popleft()
            error = (rate - expected) / sqrt(expected + 1)
            self._errors.append((now, error))
            insort(self._sorted, error)
        while self._errors and self._errors[0][0] <= now - MEMORY_S:
            _, error = self._errors.popleft()
            self._sorted.remove(error)

    def margin(self, expected: float, share: float) -> float:
        """What so many forecasts of this rate would not have been exceeded by; 0 at the least."""
        errors = self._sorted
        weight = PRIOR_ERRORS / (PRIOR_ERRORS + len(errors))
        seen = errors[min(int(share * len(errors)), len(errors) - 1)] if errors else 0.0
        return max(weight * PRIOR_ERROR + (1 - weight) * seen, 0.0) * sqrt(expected + 1)
