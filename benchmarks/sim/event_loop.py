"""The event heap: callbacks at points in virtual time, in order; ties in the order they came."""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count


class Event:
    """A callback to come; `cancel` takes it back."""

    __slots__ = ("callback", "time_s")

    def __init__(self, time_s: float, callback: Callable[[], None]) -> None:
        self.time_s = time_s
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class EventLoop:
    """Implements `Clock`. Invariant: time never goes backwards."""

    def __init__(self) -> None:
        self._now = 0.0
        self._heap: list[tuple[float, int, Event]] = []
        """Tuples, which compare fast; the number is unique, so events themselves never do."""
        self._order = count()

    def now(self) -> float:
        """Seconds since the beginning of the simulation."""
        return self._now

    def at(self, time_s: float, callback: Callable[[], None]) -> Event:
        """Call back at a point in time. Raises ValueError for one that is past or not a number."""
        if not self._now <= time_s < math.inf:
            raise ValueError(f"an event at {time_s}, but it is {self._now}")
        event = Event(time_s, callback)
        heappush(self._heap, (time_s, next(self._order), event))
        return event

    def run(self, until_s: float = math.inf) -> None:
        """Let time pass until there is nothing left to happen, or to `until_s`."""
        heap = self._heap
        while heap and heap[0][0] <= until_s:
            time_s, _, event = heappop(heap)
            if event.callback is not None:
                self._now = time_s
                event.callback()
        if until_s < math.inf:
            self._now = max(self._now, until_s)
