"""The event heap: callbacks at points in virtual time, in order; ties in the order they came."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count


@dataclass(order=True, slots=True)
class Event:
    """A callback to come; `cancel` takes it back."""

    time_s: float
    order: int
    callback: Callable[[], None] | None = field(compare=False)

    def cancel(self) -> None:
        self.callback = None


class EventLoop:
    """Implements `Clock`. Invariant: time never goes backwards."""

    def __init__(self) -> None:
        self._now = 0.0
        self._events: list[Event] = []
        self._order = count()

    def now(self) -> float:
        """Seconds since the beginning of the simulation."""
        return self._now

    def at(self, time_s: float, callback: Callable[[], None]) -> Event:
        """Call back at a point in time. Raises ValueError for one that is past or not a number."""
        if not time_s >= self._now or math.isinf(time_s):
            raise ValueError(f"an event at {time_s}, but it is {self._now}")
        event = Event(time_s, next(self._order), callback)
        heapq.heappush(self._events, event)
        return event

    def run(self, until_s: float = math.inf) -> None:
        """Let time pass until there is nothing left to happen, or to `until_s`."""
        while self._events and self._events[0].time_s <= until_s:
            event = heapq.heappop(self._events)
            if event.callback is not None:
                self._now = event.time_s
                event.callback()
        if until_s < math.inf:
            self._now = max(self._now, until_s)
