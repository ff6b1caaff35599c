"""How fast requests come in, and whether that changes: the longest history nothing speaks against.

A long window knows a steady rate well, a short one notices a change. Both are had by asking: the
estimate is the mean of the longest of some windows whose newest parts differ from the rest by no
more than chance (the idea of ADWIN: Bifet and Gavaldà, "Learning from time-changing data with
adaptive windowing", SDM 2007, with the variance of counts in place of Hoeffding's bound). A
straight line that explains a longer history than any mean is taken in its place, and gives the
trend.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from .window import RecentCounts

SPANS_S = (10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0)
CHANCE = 2.5
"""Standard deviations between two windows that are still taken for chance."""
DISPERSION_RATE = 0.02
MIN_POINTS = 4
"""Observations that make a line."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests per second."""

    now: float
    slope: float
    """Per second per second; 0 unless the data show one."""
    error: float
    """Standard error of `now`."""
    span_s: float
    """The window it comes from."""

    def at(self, horizon_s: float) -> float:
        """Expected after so many seconds; a trend goes on for as long as it has lasted."""
        return max(self.now + self.slope * min(horizon_s, self.span_s), 0.0)


class Arrivals:
    """Counts of late, one an observation, for as long as the longest window."""

    def __init__(self) -> None:
        self._recent = RecentCounts(SPANS_S[-1])
        self._dispersion = 1.0
        """Variance of counts over their mean: 1 for a Poisson process, more for bursts."""
        self._rate: Rate | None = None

    def add(self, now: float, interval_s: float, count: float) -> None:
        if self._rate is not None and self._rate.now > 0:
            expected = self._rate.now * interval_s
            surprise = min((count - expected) ** 2 / max(expected, 0.5), 25.0)
            self._dispersion += DISPERSION_RATE * (surprise - self._dispersion)
        self._recent.add(now, interval_s, count)
        self._rate = self._best()

    def estimate(self) -> Rate | None:
        """The rate now; None before the first observation."""
        return self._rate

    def at(self, horizon_s: float) -> float | None:
        return None if self._rate is None else self._rate.at(horizon_s)

    def _best(self) -> Rate:
        mean = self._mean(SPANS_S[0])
        line = None
        for span in reversed(SPANS_S):
            if (steady := self._mean(span)).span_s <= mean.span_s:
                break
            if self._explains(steady):
                mean = steady
                break
            if line is None and (trend := self._line(span)) and self._explains(trend):
                line = trend
        return mean if line is None else line

    @property
    def dispersion(self) -> float:
        return max(self._dispersion, 1.0)

    def _mean(self, span_s: float) -> Rate:
        seconds, count = self._recent.sums(span_s)
        error = sqrt(max(count, 1.0) * self.dispersion) / seconds
        return Rate(count / seconds, 0.0, error, seconds)

    def _explains(self, rate: Rate) -> bool:
        """Whether no newest part of the rate's window is off by more than chance."""
        for span in SPANS_S:
            if span > rate.span_s / 1.9:
                break
            seconds, count = self._recent.sums(span)
            expected = seconds * max(rate.now - rate.slope * seconds / 2, 0.0)
            # The part belongs to what the rate was made from, so it is nearer than chance alone.
            rest = 1 - seconds / rate.span_s
            variance = max(expected, 1.0) * self.dispersion * rest
            if abs(count - expected) > CHANCE * sqrt(variance):
                return False
        return True

    def _line(self, span_s: float) -> Rate | None:
        """Least squares through a window; None unless the slope is beyond chance."""
        points, total = [], 0.0
        for length, amount in self._recent.newest(span_s):
            points.append((-(total + length / 2), amount / length, length))
            total += length
        if len(points) < MIN_POINTS:
            return None
        mean_x = sum(x * w for x, _, w in points) / total
        mean_y = sum(y * w for _, y, w in points) / total
        spread = sum(w * (x - mean_x) ** 2 for x, _, w in points)
        slope = sum(w * (x - mean_x) * (y - mean_y) for x, y, w in points) / spread
        # The variance of one bucket's rate is rate * dispersion / seconds.
        variance = max(mean_y, 1 / total) * self.dispersion
        slope_error = sqrt(variance / spread)
        if abs(slope) < CHANCE * slope_error:
            return None
        now = max(mean_y - slope * mean_x, 0.0)
        error = sqrt(variance * (1 / total + mean_x * mean_x / spread))
        # Rather too flat than too steep: what is extrapolated costs replicas.
        shrunk = max(abs(slope) - slope_error, 0.0)
        return Rate(now, shrunk if slope > 0 else -shrunk, error, total)
