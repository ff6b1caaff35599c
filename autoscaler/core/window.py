"""The last so many seconds: what came in them, and the largest of their values."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator


class RecentCounts:
    """Counts of the last `span_s` seconds, one an observation."""

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._buckets: deque[tuple[float, float, float]] = deque()
        """(end, seconds, count), newest first."""

    def add(self, now: float, interval_s: float, count: float) -> None:
        """What came in the `interval_s` before `now`."""
        self._buckets.appendleft((now, interval_s, count))
        while self._buckets[-1][0] <= now - self._span_s:
            self._buckets.pop()

    def newest(self, span_s: float) -> Iterator[tuple[float, float]]:
        """(seconds, count) of those that fill a shorter span, newest first; of one at the least."""
        total = 0.0
        for _, seconds, count in self._buckets:
            if total and total + seconds > span_s:
                break
            total += seconds
            yield seconds, count

    def sums(self, span_s: float) -> tuple[float, float]:
        """Seconds and count of the newest that fill the span."""
        seconds = count = 0.0
        for length, amount in self.newest(span_s):
            seconds += length
            count += amount
        return seconds, count


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
