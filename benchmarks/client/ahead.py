"""Sessions written before they are due, so that a burst of long prompts leaves on time.

Writing a prompt takes 0.2 us a token. A trace may have ten prompts of 12,000 tokens at one moment:
written then, the last would leave 25 ms late.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

from shoal.benchmarks.workload.plan import Session, Workload

MAX_AHEAD = 32

Planned = tuple[int, float, Session]
"""Index, seconds from the start of the run, what to send."""


class Ahead:
    """The sessions of an open loop in the order of their times, up to MAX_AHEAD of them ready."""

    def __init__(self, workload: Workload, times: Iterator[tuple[int, float]]) -> None:
        """`times` yields (index, seconds from the start) in order."""
        self._workload = workload
        self._times = times
        self._ready: deque[Planned] = deque()
        self.slowest_s = 0.0
        """The longest that writing one took."""

    def write(self) -> bool:
        """Write one more; False when there are enough, or no more."""
        return len(self._ready) < MAX_AHEAD and self._write()

    def take(self) -> Planned | None:
        """The next session, written now if it was not before; None after the last."""
        if self._ready or self._write():
            return self._ready.popleft()
        return None

    def _write(self) -> bool:
        began = time.perf_counter()
        planned = next(self._times, None)
        if planned is None:
            return False
        index, start_s = planned
        self._ready.append((index, start_s, self._workload.session(index)))
        self.slowest_s = max(self.slowest_s, time.perf_counter() - began)
        return True
