"""Waiting requests in admission order, with a queue deadline."""

from __future__ import annotations

from bisect import bisect_left, insort
from math import inf

from .policy import order_key
from .request import Request, RequestStatus


class RequestQueue:
    """A sorted list: the queue is bounded, so an O(n) insertion is a small memmove.

    The deadline counts from arrival and holds for requests that never ran; a preempted request
    has started its answer and waits without one.
    """

    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s = inf if timeout_s is None else timeout_s
        self._items: list[tuple[tuple[int, float, str], Request]] = []
        self._next_deadline = inf

    def __len__(self) -> int:
        return len(self._items)

    def add(self, request: Request) -> None:
        insort(self._items, (order_key(request), request))
        if request.status is RequestStatus.WAITING:
            deadline = request.arrival_time + self._timeout_s
            self._next_deadline = min(self._next_deadline, deadline)

    def peek(self) -> Request | None:
        """The request to admit next."""
        return self._items[0][1] if self._items else None

    def pop(self) -> Request:
        """Remove and return what `peek` shows."""
        return self._items.pop(0)[1]

    def remove(self, request: Request) -> None:
        """Take out a request that is in the queue."""
        key = order_key(request)
        index = bisect_left(self._items, key, key=lambda item: item[0])
        assert self._items[index][1] is request
        del self._items[index]

    def pop_expired(self, now: float) -> list[Request]:
        """Remove and return what has waited too long; costs nothing until a deadline passes."""
        if now < self._next_deadline:
            return []
        expired, kept, self._next_deadline = [], [], inf
        for item in self._items:
            request = item[1]
            deadline = request.arrival_time + self._timeout_s
            if request.status is not RequestStatus.WAITING:
                kept.append(item)
            elif deadline <= now:
                expired.append(request)
            else:
                kept.append(item)
                self._next_deadline = min(self._next_deadline, deadline)
        self._items = kept
        return expired
