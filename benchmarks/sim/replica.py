"""A replica: continuous batching with chunked prefill, as far as time can tell.

Steps with prompt tokens in them are simulated one by one. Stretches that only decode are skipped
through in one event, which ends at the first answer that is complete; an arrival cuts the stretch
at the step that is under way. So the cost is a few events a request, not one a token.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from .event_loop import Event, EventLoop
from .request import SimRequest
from .step_cost import StepCost


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSpec:
    cost: StepCost = field(default_factory=StepCost)
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 512
    kv_tokens: int = 400_000
    """Tokens that the KV cache holds."""


class Replica:
    """Serves requests from when it is made until nobody gives it any.

    Invariant: between events at most one step or stretch is under way, `_under_way`.
    Most of a simulation's time is spent here, hence the counts that are kept rather than summed.
    """

    def __init__(
        self,
        loop: EventLoop,
        spec: ReplicaSpec,
        *,
        first_token: Callable[[SimRequest], None],
        finished: Callable[[SimRequest], None],
    ) -> None:
        self._loop = loop
        self._spec = spec
        self._first_token = first_token
        self._finished = finished
        self._waiting: deque[SimRequest] = deque()
        self._prompt: SimRequest | None = None
        self._prompt_left = 0
        self._completing: list[SimRequest] = []
        """Whose prompts end in the step that is under way."""
        self._decoding: list[tuple[int, int, SimRequest]] = []
        """Heap of (step that completes it, order, request)."""
        self._order = count()
        self._steps = 0
        self._kv_tokens = 0
        """Of requests that decode; grows by one for each in every step."""
        self._reserved = 0
        """KV tokens that the admitted requests will have at their end."""
        self._under_way: Event | None = None
        self._step_tokens = 0
        """Prompt tokens of the step that is under way."""
        self._stretch_began: float | None = None
        self._stretch_steps = 0
        self.num_requests = 0
        """Running and waiting."""
        self.output_tokens = 0
        """Tokens put out so far; stretches count when they end."""
        self.input_tokens = 0
        """Prompt tokens computed so far."""

    @property
    def num_running(self) -> int:
        return self.num_requests - len(self._waiting)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def kv_usage(self) -> float:
        return min(self._reserved / self._spec.kv_tokens, 1.0)

    def add(self, request: SimRequest) -> None:
        """Queue a request; a stretch that is under way ends with its present step."""
        self._waiting.append(request)
        self.num_requests += 1
        if self._under_way is None:
            self._next()
        elif self._stretch_began is not None and self._has_room():
            self._cut_stretch()

    def _has_room(self) -> bool:
        if not self._waiting:
            return False
        running = self.num_requests - len(self._waiting)
        if running >= self._spec.max_num_seqs:
            return False
        head = self._waiting[0]
        needed = head.num_input_tokens + head.num_output_tokens
        return self._reserved + needed <= self._spec.kv_tokens or not running

    def _next(self) -> None:
        """Begin what comes next: a step with prompt tokens, a stretch of decodes, or nothing."""
        self._under_way, self._stretch_began = None, None
        if self._prompt is None and self._has_room():
            self._begin_prompt()
        if self._prompt is not None:
            self._begin_step()
        elif self._decoding:
            self._begin_stretch()

    def _begin_prompt(self) -> None:
        request = self._waiting.popleft()
        self._prompt = request
        self._prompt_left = max(request.num_input_tokens - request.num_cached_tokens, 1)
        self._reserved += request.num_input_tokens + request.num_output_tokens

    def _begin_step(self) -> None:
        """One step: all decodes, and prompts one after another as the budget goes."""
        budget = max(self._spec.max_num_batched_tokens - len(self._decoding), 1)
        tokens = 0
        while self._prompt is not None and budget > 0:
            chunk = min(self._prompt_left, budget)
            tokens += chunk
            budget -= chunk
            self._prompt_left -= chunk
            if self._prompt_left:
                break
            self._completing.append(self._prompt)
            self._prompt = None
            if budget > 0 and self._has_room():
                self._begin_prompt()
        seconds = self._spec.cost.step_s(
            prompt_tokens=tokens, decodes=len(self._decoding), kv_tokens=self._kv_tokens
        )
        self._step_tokens = tokens
        self._under_way = self._loop.at(self._loop.now() + seconds, self._end_step)

    def _end_step(self) -> None:
        self.input_tokens += self._step_tokens
        self._book_decodes(1)
        complete, self._completing = self._completing, []
        for request in complete:
            request.first_token_s = self._loop.now()
            self._first_token(request)
            self.output_tokens += 1
            self._kv_tokens += request.num_input_tokens
            last = self._steps + request.num_output_tokens - 1
            heapq.heappush(self._decoding, (last, next(self._order), request))
        self._retire()
        self._next()

    def _begin_stretch(self) -> None:
        num_steps = self._decoding[0][0] - self._steps
        seconds = self._spec.cost.stretch_s(
            num_steps, decodes=len(self._decoding), kv_tokens=self._kv_tokens
        )
        self._stretch_steps = num_steps
        self._stretch_began = self._loop.now()
        self._under_way = self._loop.at(self._stretch_began + seconds, self._end_stretch)

    def _cut_stretch(self) -> None:
        assert self._under_way is not None
        assert self._stretch_began is not None
        decodes, kv_tokens, cost = len(self._decoding), self._kv_tokens, self._spec.cost
        elapsed = self._loop.now() - self._stretch_began
        num_steps = cost.steps_begun(elapsed, decodes=decodes, kv_tokens=kv_tokens)
        seconds = cost.stretch_s(num_steps, decodes=decodes, kv_tokens=kv_tokens)
        end = max(self._stretch_began + seconds, self._loop.now())
        if end < self._under_way.time_s:
            self._under_way.cancel()
            self._stretch_steps = num_steps
            self._under_way = self._loop.at(end, self._end_stretch)
        self._stretch_began = None  # cut once; more arrivals change nothing

    def _end_stretch(self) -> None:
        self._book_decodes(self._stretch_steps)
        self._retire()
        self._next()

    def _book_decodes(self, num_steps: int) -> None:
        self._steps += num_steps
        self._kv_tokens += num_steps * len(self._decoding)
        self.output_tokens += num_steps * len(self._decoding)

    def _retire(self) -> None:
        while self._decoding and self._decoding[0][0] <= self._steps:
            _, _, request = heapq.heappop(self._decoding)
            request.finished_s = self._loop.now()
            length = request.num_input_tokens + request.num_output_tokens
            self._kv_tokens -= length - 1
            self._reserved -= length
            self.num_requests -= 1
            self._finished(request)
