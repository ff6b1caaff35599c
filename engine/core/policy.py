"""Who goes first, and who gives way: pure functions over what vLLM's requests look like too.

Liveness: within the most urgent priority class, the running request with the most sunk work is
never a victim, so it ends; then the next one is. A request that was preempted keeps its place in
the order of arrival.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar


class RequestView(Protocol):
    """The attributes a policy may look at; named as in vLLM, whose `Request` fits as it is."""

    request_id: str
    arrival_time: float
    priority: int
    num_computed_tokens: int


R = TypeVar("R", bound=RequestView)


def order_key(request: RequestView) -> tuple[int, float, str]:
    """Sort key of admission: more urgent first, then first come, first served."""
    return (request.priority, request.arrival_time, request.request_id)


def choose_victim(running: Iterable[R], *, min_priority: int) -> R | None:
    """The request to preempt so that others can go on; None when nobody may be.

    Only requests with `priority >= min_priority` are considered (a higher number is less
    urgent). Among the least urgent the one with the least sunk work goes: every computed token
    is a token to compute again. Ties fall on the latest arrival. Worked example: decodes with
    900 and 100 computed tokens and a newcomer with 20 -> the newcomer, though it came last in
    FCFS order too; without it, the one with 100, even if the other is younger.
    """
    candidates = [request for request in running if request.priority >= min_priority]
    return max(
        candidates,
        key=lambda r: (r.priority, -r.num_computed_tokens, r.arrival_time, r.request_id),
        default=None,
    )
