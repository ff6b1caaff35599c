"""The running requests: those with one token left to compute, which decode, and those with more.

Invariant: every decode is in every step, so that a step need not visit each of them to know what
it computes: the numbers of a step are sums that are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .ahead import DecodesAhead, decodes_after
from .request import Request, RequestStatus
from .step_time import StepShape


class RunningRequests:
    """Owns which of them decode. The dictionaries may be read, in order of arrival there."""

    def __init__(self) -> None:
        self.decoding: dict[str, Request] = {}
        self.prefilling: dict[str, Request] = {}
        self._decode_context = 0
        """Known tokens of all that decode."""
        self._one_left: set[str] = set()
        """Decodes whose next token is their last, by their length."""

    def __len__(self) -> int:
        return len(self.decoding) + len(self.prefilling)

    def __iter__(self) -> Iterator[Request]:
        yield from self.decoding.values()
        yield from self.prefilling.values()

    def add(self, request: Request) -> None:
        self.prefilling[request.request_id] = request

    def remove(self, request: Request) -> None:
        if self.decoding.pop(request.request_id, None) is None:
            del self.prefilling[request.request_id]
        else:
            self._decode_context -= request.num_tokens

    def decode_shape(self) -> StepShape:
        """A step with nothing but the decodes."""
        return StepShape(len(self.decoding), self._decode_context)

    def decodes_after(self, num_in_flight: Mapping[str, int]) -> DecodesAhead:
        """Who decodes in the step after one that computes so many tokens of each request."""
        return decodes_after(self.decoding, self.prefilling, num_in_flight, self._one_left)

    def begin_booking(self) -> None:
        """Each that decodes still was in the step that ended, so it gets its token now."""
        self._decode_context += len(self.decoding)

    def end_booking(self, one_left: set[str]) -> None:
        """Prefills with one token left decode from now on; `one_left` got a token and lack one."""
        for request in [r for r in self.prefilling.values() if r.num_computed_tokens]:
            if request.num_computed_tokens == request.num_tokens - 1:
                self.decoding[request.request_id] = self.prefilling.pop(request.request_id)
                self._decode_context += request.num_tokens
                if request.num_tokens + 1 >= request.max_num_tokens:
                    one_left.add(request.request_id)
        self._one_left = one_left

    def check_integrity(self) -> None:
        """Raise AssertionError unless progress and sums agree."""
        assert not self.decoding.keys() & self.prefilling.keys()
        for request in self:
            assert request.status is RequestStatus.RUNNING, request
            assert request.num_computed_tokens < request.num_tokens, request
        for request in self.decoding.values():
            assert request.num_computed_tokens == request.num_tokens - 1, request
        assert self._decode_context == sum(r.num_tokens for r in self.decoding.values())
