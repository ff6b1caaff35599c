"""The largest value of the last so many seconds."""

from __future__ import annotations

from collections import deque


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
