"""Requests that come at their times."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from .event_loop import EventLoop
from .request import SimRequest


def arrive(
    loop: EventLoop, requests: Iterable[SimRequest], submit: Callable[[SimRequest], None]
) -> None:
    """Submit each when it comes. They are in order, and one is on the heap at a time: a short heap
    is a fast one."""
    coming = iter(requests)

    def next_one(request: SimRequest | None = None) -> None:
        if request is not None:
            submit(request)
        if (after := next(coming, None)) is not None:
            loop.at(after.arrival_s, partial(next_one, after))

    next_one()
