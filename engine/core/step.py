"""One step while it is being decided: carries the budgets, is turned into output, thrown away."""

from __future__ import annotations

from collections.abc import Mapping

from .output import BlockCopies, NewRequestData, Reason, ReasonKind, SchedulerOutput
from .prefill_time import PrefillTime
from .request import Request
from .step_time import count_pairs


class Step:
    """Invariant: `budget` + sum of `num_scheduled_tokens` = the step's token budget."""

    def __init__(self, budget: int, *, in_flight: Mapping[str, int] | None = None) -> None:
        self.budget = budget
        self.is_ahead = in_flight is not None
        """Whether a step before this one is in flight."""
        self.prefill_time: PrefillTime | None = None
        """Set when the decodes are known; None: tokens are the only limit."""
        self.prefill_tokens = 0
        self.prefill_pairs = 0
        self.num_scheduled_tokens: dict[str, int] = {}
        self.new_reqs: list[NewRequestData] = []
        self.new_block_ids: dict[str, list[list[int]]] = {}
        self.preempted: list[str] = []
        self.reasons: list[Reason] = []
        self._total = budget
        self._in_flight = in_flight or {}

    def num_in_flight(self, request: Request) -> int:
        """Tokens of the request that the step before computes, and that are not booked yet."""
        return self._in_flight.get(request.request_id, 0)

    def begin_with(self, decodes: dict[str, int]) -> None:
        """Schedule decodes, one token each: they lead the execution order. Keeps the dictionary."""
        self.num_scheduled_tokens = decodes
        self.budget -= len(decodes)

    @property
    def has_room(self) -> bool:
        """Whether another prefill may find a place."""
        spent = self.prefill_time is not None and self.prefill_time.is_spent
        return self.budget > 0 and not spent

    def chunk(self, num_tokens: int, *, start: int) -> int:
        """How many of the `num_tokens` that a prefill lacks from `start` on fit into the step."""
        num_tokens = min(num_tokens, self.budget)
        if self.prefill_time is None:
            return num_tokens
        return self.prefill_time.fit(num_tokens, start=start)

    def add_prefill(self, request: Request, num_tokens: int) -> None:
        start = request.num_computed_tokens + self.num_in_flight(request)
        self.num_scheduled_tokens[request.request_id] = num_tokens
        self.budget -= num_tokens
        self.prefill_tokens += num_tokens
        self.prefill_pairs += count_pairs(num_tokens, start=start)
        if self.prefill_time is not None:
            self.prefill_time.spend(num_tokens, start=start)
        left = request.num_tokens - start - num_tokens
        if left:
            self.explain_budget(request, f"{num_tokens} tokens in this step, {left} left")

    def explain_budget(self, request: Request, what: str) -> None:
        """Say which of the two budgets cut a prefill short: with tokens left it was the time."""
        if self.budget and self.prefill_time is not None:
            what += f"; it is to take {self.prefill_time.target_s * 1000:.0f} ms"
        self.explain(ReasonKind.BUDGET, request, detail=what)

    def add_new(self, request: Request) -> None:
        """Hand a request to the runner in full."""
        self.new_reqs.append(
            NewRequestData(
                request_id=request.request_id,
                token_ids=request.token_ids,
                num_prompt_tokens=request.num_prompt_tokens,
                num_computed_tokens=request.num_computed_tokens,
                sampling_params=request.sampling_params,
                stop_token_ids=request.stop_token_ids,
                block_ids=[list(table) for table in request.block_ids],
            )
        )

    def drop(self, request: Request) -> None:
        """Take a preempted request out of the step again."""
        self.preempted.append(request.request_id)
        self.new_block_ids.pop(request.request_id, None)
        self.budget += self.num_scheduled_tokens.pop(request.request_id, 0)

    def explain(
        self, kind: ReasonKind, request: Request, *, by: Request | None = None, detail: str = ""
    ) -> None:
        cause = None if by is None else by.request_id
        self.reasons.append(Reason(kind, request.request_id, by=cause, detail=detail))

    def output(
        self, finished_req_ids: list[str], copies: BlockCopies | None = None
    ) -> SchedulerOutput:
        return SchedulerOutput(
            scheduled_new_reqs=self.new_reqs,
            num_scheduled_tokens=self.num_scheduled_tokens,
            total_num_scheduled_tokens=self._total - self.budget,
            new_block_ids=self.new_block_ids,
            finished_req_ids=finished_req_ids,
            preempted_req_ids=self.preempted,
            reasons=self.reasons,
            copies=copies,
        )
