"""Sums over the last so many seconds, kept as buckets of one observation each."""

from __future__ import annotations

from collections import deque


class RateWindow:
    """How much came in per second of late. Invariant: buckets are in order and within `span_s`."""

    def __init__(self, span_s: float) -> None:
        self.span_s = span_s
        self._buckets: deque[tuple[float, float, float]] = deque()
        """(end, length in seconds, amount)."""

    def add(self, now: float, interval_s: float, amount: float) -> None:
        """An amount that came in the `interval_s` before `now`."""
        self._buckets.append((now, interval_s, amount))
        while self._buckets[0][0] <= now - self.span_s:
            self._buckets.popleft()

    def rate(self, span_s: float | None = None) -> float | None:
        """Per second, over the whole window or the last part of it; None when nothing is known."""
        if not self._buckets:
            return None
        since = self._buckets[-1][0] - (self.span_s if span_s is None else span_s)
        inside = [b for b in self._buckets if b[0] > since] or [self._buckets[-1]]
        return sum(b[2] for b in inside) / sum(b[1] for b in inside)

    @property
    def seconds(self) -> float:
        """How much of the window is filled."""
        return sum(length for _, length, _ in self._buckets)


class MaxWindow:
    """The largest value of the last `span_s` seconds: a monotonic queue, O(1) amortised."""

    def __init__(self, span_s: float) -> None:
        self.span_s = span_s
        self._values: deque[tuple[float, float]] = deque()
        self._since: float | None = None

    def seconds(self, now: float) -> float:
        """How long values have come in: before `span_s` the largest of them says little."""
        return 0.0 if self._since is None else now - self._since

    def add(self, now: float, value: float) -> float:
        """Take a value in; the largest with it."""
        if self._since is None:
            self._since = now
        while self._values and self._values[-1][1] <= value:
            self._values.pop()
        self._values.append((now, value))
        while len(self._values) > 1 and self._values[0][0] <= now - self.span_s:
            self._values.popleft()  # the newest stays, with a span of 0 too
        return self._values[0][1]
