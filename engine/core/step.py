"""One step while it is being decided: carries the budget, is turned into output, thrown away."""

from __future__ import annotations

from collections.abc import Iterable

from .output import NewRequestData, Reason, ReasonKind, SchedulerOutput
from .request import Request


class Step:
    """Invariant: `budget` + sum of `num_scheduled_tokens` = the step's token budget."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.num_scheduled_tokens: dict[str, int] = {}
        self.new_reqs: list[NewRequestData] = []
        self.new_block_ids: dict[str, list[list[int]]] = {}
        self.preempted: list[str] = []
        self.reasons: list[Reason] = []
        self._total = budget

    def add_decodes(self, request_ids: Iterable[str]) -> None:
        """Schedule one token each; comes first, so that decodes lead the execution order."""
        self.num_scheduled_tokens = dict.fromkeys(request_ids, 1)
        self.budget -= len(self.num_scheduled_tokens)

    def add_prefill(self, request: Request, num_tokens: int) -> None:
        self.num_scheduled_tokens[request.request_id] = num_tokens
        self.budget -= num_tokens
        left = request.num_tokens - request.num_computed_tokens - num_tokens
        if left:
            detail = f"{num_tokens} tokens in this step, {left} left"
            self.explain(ReasonKind.BUDGET, request, detail=detail)

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

    def output(self, finished_req_ids: list[str]) -> SchedulerOutput:
        return SchedulerOutput(
            scheduled_new_reqs=self.new_reqs,
            num_scheduled_tokens=self.num_scheduled_tokens,
            total_num_scheduled_tokens=self._total - self.budget,
            new_block_ids=self.new_block_ids,
            finished_req_ids=finished_req_ids,
            preempted_req_ids=self.preempted,
            reasons=self.reasons,
        )
