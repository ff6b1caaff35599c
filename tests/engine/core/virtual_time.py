"""A scheduler in virtual time: steps cost what a cost model says, nothing is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shoal.engine.core.output import ModelRunnerOutput, SchedulerOutput
from shoal.engine.core.request import Request
from shoal.engine.core.scheduler import Scheduler
from shoal.engine.core.step_time import StepShape, count_pairs

CostModel = Callable[[StepShape], float]


def small_model_on_a_cpu(shape: StepShape) -> float:
    """5 ms, 1 ms a token, and 1 s for four million pairs: 8 decodes of 100 tokens take 13 ms, a
    prompt of 4,000 tokens in chunks of 512 takes 6 s."""
    num_tokens = shape.num_decodes + shape.prefill_tokens
    num_pairs = shape.decode_context + shape.prefill_pairs
    return 0.005 + 0.001 * num_tokens + 0.25e-6 * num_pairs


@dataclass(frozen=True)
class SimulatedStep:
    start: float
    seconds: float
    shape: StepShape
    out: SchedulerOutput


class Simulation:
    """Steps a scheduler on a clock of its own, and keeps when each token came."""

    def __init__(self, scheduler: Scheduler, cost: CostModel) -> None:
        self.scheduler = scheduler
        self.cost = cost
        self.now = 100.0
        self.steps: list[SimulatedStep] = []
        self.token_times: dict[str, list[float]] = {}
        self.arrivals: dict[str, float] = {}
        # Per request: tokens known and tokens computed.
        self._known: dict[str, int] = {}
        self._computed: dict[str, int] = {}

    def add(self, request: Request) -> None:
        assert self.scheduler.add_request(request) is None
        self.arrivals[request.request_id] = request.arrival_time

    def ttft(self, request_id: str) -> float:
        return self.token_times[request_id][0] - self.arrivals[request_id]

    def step(self) -> SimulatedStep:
        out = self.scheduler.schedule(self.now)
        for new in out.scheduled_new_reqs:
            self._known[new.request_id] = len(new.token_ids)
            self._computed[new.request_id] = new.num_computed_tokens
        decodes = context = tokens = pairs = 0
        sampled: list[list[int]] = []
        for request_id, num_tokens in out.num_scheduled_tokens.items():
            start = self._computed[request_id]
            if num_tokens == 1:
                decodes, context = decodes + 1, context + start + 1
            else:
                tokens, pairs = tokens + num_tokens, pairs + count_pairs(num_tokens, start=start)
            self._computed[request_id] = start + num_tokens
            sampled.append([7] if start + num_tokens == self._known[request_id] else [])
            self._known[request_id] += len(sampled[-1])
        step = SimulatedStep(self.now, 0.0, StepShape(decodes, context, tokens, pairs), out)
        if out.num_scheduled_tokens:
            step = SimulatedStep(self.now, self.cost(step.shape), step.shape, out)
        self.now += step.seconds
        req_ids = list(out.num_scheduled_tokens)
        self.scheduler.update_from_output(out, ModelRunnerOutput(req_ids, sampled), self.now)
        for request_id, new in zip(req_ids, sampled, strict=True):
            if new:
                self.token_times.setdefault(request_id, []).append(self.now)
        self.steps.append(step)
        return step
