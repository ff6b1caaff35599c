"""How fast requests come in: the longest window that nothing speaks against.

A long window knows a steady rate well, a short one notices a change. Both are had by asking: the
estimate is the mean of the longest of some windows whose count does not differ from that of any
shorter one by more than chance (the idea of ADWIN: Bifet and Gavaldà, "Learning from time-changing
data with adaptive windowing", SDM 2007, with counts of a Poisson process in place of Hoeffding's
bound). Where a straight line through the window fits better than its mean, the line is taken.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import sqrt

SPANS_S = (10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0)
CHANCE = 2.5
"""Standard deviations between two windows that are still taken for chance."""
DISPERSION_RATE = 0.02


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
        """Expected after so many seconds."""
        return max(self.now + self.slope * horizon_s, 0.0)


class Arrivals:
    """Counts of late, one an observation, for as long as the longest window."""

    def __init__(self) -> None:
        self._buckets: deque[tuple[float, float, float]] = deque()
        """(end, seconds, count), newest first."""
        self._dispersion = 1.0
        """Variance of counts over their mean: 1 for a Poisson process, more for bursts."""

    def add(self, now: float, interval_s: float, count: float) -> None:
        rate = self.estimate()
        if rate is not None and rate.now > 0:
            expected = rate.now * interval_s
            surprise = min((count - expected) ** 2 / max(expected, 0.5), 25.0)
            self._dispersion += DISPERSION_RATE * (surprise - self._dispersion)
        self._buckets.appendleft((now, interval_s, count))
        while self._buckets[-1][0] <= now - SPANS_S[-1]:
            self._buckets.pop()

    def estimate(self) -> Rate | None:
        """The rate now; None before the first observation."""
        if not self._buckets:
            return None
        best, shorter = self._sums(SPANS_S[0]), []
        for span in SPANS_S:
            sums = self._sums(span)
            if any(self._differ(sums, other) for other in shorter):
                break
            shorter.append(sums)
            best = sums
        seconds, count = best
        error = sqrt(max(count, 1.0) * self.dispersion) / seconds
        mean = Rate(count / seconds, 0.0, error, seconds)
        return self._line(seconds) or mean

    @property
    def dispersion(self) -> float:
        return max(self._dispersion, 1.0)

    def recent(self, span_s: float) -> float:
        """Requests per second over the last `span_s` alone."""
        seconds, count = self._sums(span_s)
        return count / seconds if seconds else 0.0

    def _sums(self, span_s: float) -> tuple[float, float]:
        """Seconds and count of the newest buckets that fill the span."""
        seconds = count = 0.0
        for _, length, amount in self._buckets:
            if seconds and seconds + length > span_s:
                break
            seconds += length
            count += amount
        return seconds, count

    def _differ(self, long: tuple[float, float], short: tuple[float, float]) -> bool:
        """Whether the newest part of a window has another rate than the rest of it."""
        rest_s, rest = long[0] - short[0], long[1] - short[1]
        if rest_s <= 0:
            return False
        pooled = long[1] / long[0]
        variance = max(pooled, 1 / long[0]) * self.dispersion * (1 / short[0] + 1 / rest_s)
        return abs(short[1] / short[0] - rest / rest_s) > CHANCE * sqrt(variance)

    def _line(self, seconds: float) -> Rate | None:
        """A trend in a window of 1.5 times the span, if it is beyond chance; least squares."""
        span = min(max(2 * seconds, 60.0), SPANS_S[-1])
        points, total = [], 0.0
        for _, length, amount in self._buckets:
            if total >= span:
                break
            points.append((-(total + length / 2), amount / length, length))
            total += length
        if len(points) < 6:
            return None
        weight = sum(p[2] for p in points)
        mean_x = sum(x * w for x, _, w in points) / weight
        mean_y = sum(y * w for _, y, w in points) / weight
        spread = sum(w * (x - mean_x) ** 2 for x, _, w in points)
        slope = sum(w * (x - mean_x) * (y - mean_y) for x, y, w in points) / spread
        # The variance of one bucket's rate is rate * dispersion / seconds.
        variance = max(mean_y, 1 / weight) * self.dispersion
        slope_error = sqrt(variance / spread)
        if abs(slope) < CHANCE * slope_error:
            return None
        now = max(mean_y - slope * mean_x, 0.0)
        error = sqrt(variance * (1 / weight + mean_x * mean_x / spread))
        return Rate(now, slope, error, total)
