"""Surges: more comes than was expected, by more than chance. A panic window for forecasts.

Forecasts learn of a jump when their time has come, a start-up too late. So the last seconds are
held against the rate expected for now. While a surge lasts, the shortest history that explains it
is believed, with its slope, and nothing is given up (the idea of Knative's panic mode).
"""

from __future__ import annotations

from math import sqrt

from .window import RecentCounts

SPANS_S = (10.0, 20.0, 30.0)
CHANCE = 3.5
"""Standard deviations that are no chance any more."""
LASTS_S = 60.0
MOST_GROWTH = 1.5
"""Of what comes now, until a replica is ready: steeper slopes do not last."""


class Surge:
    """Says until when to believe the last seconds."""

    def __init__(self) -> None:
        self._recent = RecentCounts(SPANS_S[-1])
        self._until: float | None = None

    def add(
        self, now: float, interval_s: float, count: float, *, expected: float, spread: float
    ) -> None:
        """`expected`: the rate that was foreseen for now; `spread`: how wrong that usually is."""
        self._recent.add(now, interval_s, count)
        if any(self._is_beyond(span, expected, spread) for span in SPANS_S):
            self._until = now + LASTS_S

    def is_on(self, now: float) -> bool:
        return self._until is not None and now < self._until

    def _is_beyond(self, span_s: float, expected: float, spread: float) -> bool:
        seconds, total = self._recent.sums(span_s)
        chance = sqrt(max(expected * seconds, 1.0))
        return total - expected * seconds > CHANCE * spread * chance
