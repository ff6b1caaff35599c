"""How much of an engine's step is not the kernels: scheduling, batching, booking."""

from __future__ import annotations

import time
from dataclasses import dataclass

from shoal.clock import MonotonicClock
from shoal.engine.core.config import CacheConfig, SchedulerConfig
from shoal.engine.core.output import TokenLogprobs
from shoal.engine.core.request import Request
from shoal.engine.core.sampling_params import SamplingParams
from shoal.engine.core.scheduler import Scheduler
from shoal.engine.engine_core import EngineCore
from shoal.engine.models.native_llama import NativeLlama
from shoal.engine.runner.backend import PendingSample
from shoal.engine.runner.input_batch import StepInputs
from shoal.engine.runner.model_runner import PagedModelRunner
from shoal.engine.runner.native_backend import NativeBackend
from shoal.engine.runner.sampling_plan import LongInts, SamplingPlan

PROMPT_TOKENS, OUTPUT_TOKENS = 16, 200
"""So short prompts that all decode together soon, and for long."""


class TimedBackend:
    """A backend that adds up the seconds spent in it."""

    max_in_flight = 1

    def __init__(self, backend: NativeBackend) -> None:
        self.vocab_size = backend.vocab_size
        self.seconds = 0.0
        self._backend = backend

    def submit(
        self, inputs: StepInputs, tokens: LongInts, plan: SamplingPlan | None
    ) -> PendingSample:
        begin = time.perf_counter()
        sampled = self._backend.submit(inputs, tokens, plan)
        self.seconds += time.perf_counter() - begin
        return sampled

    def token_logprobs(
        self, tokens: LongInts, targets: LongInts, *, num_top: int
    ) -> list[TokenLogprobs]:
        return self._backend.token_logprobs(tokens, targets, num_top=num_top)


@dataclass(frozen=True, slots=True)
class EngineShare:
    """Of steps in which all sequences decode."""

    step_s: float
    outside_kernels: float
    """Share of the time, in [0, 1]."""


def measure_engine_share(model: NativeLlama, *, num_seqs: int) -> EngineShare:
    """Generate with the real scheduler and runner, on requests that begin together."""
    cache = CacheConfig(num_blocks=num_seqs * 16 + 1)
    config = SchedulerConfig(max_num_seqs=num_seqs, max_model_len=256)
    backend = TimedBackend(NativeBackend(model, cache=cache, kv_format="bfloat16"))
    runner = PagedModelRunner(backend, cache=cache, scheduler=config)
    clock = MonotonicClock()
    core = EngineCore(Scheduler(config, cache), runner, clock)
    for i in range(num_seqs):
        request = Request(
            str(i),
            [(7 * i + j) % model.config.vocab_size for j in range(PROMPT_TOKENS)],
            sampling_params=SamplingParams(
                max_tokens=OUTPUT_TOKENS, temperature=0.0, ignore_eos=True
            ),
            arrival_time=clock.now(),
        )
        rejection = core.add_request(request)
        assert rejection is None, rejection
    total = kernels = 0.0
    num_steps = 0
    while core.has_work():
        before, begin = backend.seconds, time.perf_counter()
        outputs = core.step()
        if sum(map(len, outputs.new_token_ids)) == num_seqs == len(outputs.req_ids):
            total += time.perf_counter() - begin
            kernels += backend.seconds - before
            num_steps += 1
    return EngineShare(step_s=total / num_steps, outside_kernels=1 - kernels / total)
