"""The last hour of samples: the newest one by one, older ones joined by fives. Pure and bounded."""

from __future__ import annotations

from collections import deque

from .samples import Sample, join, newest

INTERVAL_S = 2.0
NUM_FINE = 300
"""Of `INTERVAL_S`: ten minutes."""
NUM_COARSE = 300
"""Fifty minutes more."""
_GROUP = 5


class History:
    """Invariant: samples in order of time, at most `NUM_FINE + NUM_COARSE` of them."""

    def __init__(self) -> None:
        self._fine: deque[Sample] = deque()
        self._coarse: deque[Sample] = deque(maxlen=NUM_COARSE)

    def add(self, sample: Sample) -> None:
        """The newest."""
        self._fine.append(sample)
        if len(self._fine) > NUM_FINE:
            self._coarse.append(join([self._fine.popleft() for _ in range(_GROUP)]))

    def all(self) -> list[Sample]:
        """The oldest first."""
        return [*self._coarse, *self._fine]

    def latest(self, span_s: float) -> list[Sample]:
        """The newest that together cover `span_s`, or all of the last ten minutes."""
        return newest(reversed(self._fine), span_s)

    def __len__(self) -> int:
        return len(self._fine) + len(self._coarse)
