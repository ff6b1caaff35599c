"""Which requests decode in the step after the one in flight, as far as can be known before its end.

Of the step in flight everything is known but the ids it samples: who computes how much in it, who
gets a token, and who gets the last one by the request's length. So a request that samples in it
counts one token more than are booked.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from .request import Request
from .step_time import StepShape


@dataclass(frozen=True, slots=True)
class DecodesAhead:
    """Decodes of a step that is decided ahead."""

    num_tokens: dict[str, int]
    """One of each request, in execution order."""
    due: list[Request]
    """Those that lack a slot for their token."""
    extra_context: int
    """Tokens that they attend to beyond what the decodes of now know."""
    has_prefills: bool
    """Whether running prefills have tokens left beside these."""

    def shape(self, decodes_now: StepShape) -> StepShape:
        return StepShape(len(self.num_tokens), decodes_now.decode_context + self.extra_context)


def decodes_after(
    decoding: Mapping[str, Request],
    prefilling: Mapping[str, Request],
    num_in_flight: Mapping[str, int],
    one_left: Set[str],
) -> DecodesAhead:
    """Every decode is in the step in flight (`num_in_flight` tokens of each request) and goes on,
    but those of `one_left`; prefills that it completes, or all but for one token, join them."""
    num_tokens = dict.fromkeys(decoding, 1)
    due = [request for request in decoding.values() if len(request.token_ids) >= request.num_slots]
    extra_context = len(num_tokens)
    if one_left and (ending := one_left & decoding.keys()):
        for request_id in ending:
            del num_tokens[request_id]
            extra_context -= decoding[request_id].num_tokens + 1
        due = [request for request in due if request.request_id in num_tokens]
    has_prefills = False
    for request_id, request in prefilling.items():
        start = request.num_computed_tokens + num_in_flight.get(request_id, 0)
        if start < request.num_tokens - 1:
            has_prefills = True
            continue
        num_known = request.num_tokens + (start == request.num_tokens)
        if num_known >= request.max_num_tokens:
            continue
        num_tokens[request_id] = 1
        extra_context += num_known
        if num_known > request.num_slots:
            due.append(request)
    return DecodesAhead(num_tokens, due, extra_context, has_prefills)
