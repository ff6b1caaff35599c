"""Many requests through scheduler and runner in this process: throughput, and the host's share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from shoal.clock import MonotonicClock
from shoal.engine.core.config import CacheConfig, SchedulerConfig
from shoal.engine.core.request import Request
from shoal.engine.core.sampling_params import SamplingParams
from shoal.engine.core.scheduler import Scheduler
from shoal.engine.engine_core import EngineCore
from shoal.engine.runner.backend import Backend, PendingSample
from shoal.engine.runner.input_batch import StepInputs
from shoal.engine.runner.model_runner import PagedModelRunner
from shoal.engine.runner.sampling_plan import LongInts, SamplerOutput, SamplingPlan


@dataclass(slots=True)
class WaitingTimes:
    """How long the host waited for the device, and which steps were decodes alone."""

    waited_s: float = 0.0
    decodes_alone: list[bool] = field(default_factory=list)


class WatchedBackend:
    """A backend whose results say how long the host waited for them."""

    def __init__(self, backend: Backend, times: WaitingTimes) -> None:
        self.vocab_size = backend.vocab_size
        self.max_in_flight = backend.max_in_flight
        self.token_logprobs = backend.token_logprobs
        self._backend = backend
        self._times = times

    def submit(
        self, inputs: StepInputs, tokens: LongInts, plan: SamplingPlan | None
    ) -> PendingSample:
        self._times.decodes_alone.append(bool((inputs.query_lens == 1).all()))
        return _Watched(self._backend.submit(inputs, tokens, plan), self._times)


class _Watched:
    def __init__(self, pending: PendingSample, times: WaitingTimes) -> None:
        self._pending = pending
        self._times = times

    def result(self) -> SamplerOutput | None:
        started = time.perf_counter()
        result = self._pending.result()
        self._times.waited_s += time.perf_counter() - started
        return result


def measure_load(
    backend: Backend,
    scheduler: SchedulerConfig,
    cache: CacheConfig,
    *,
    prompts: list[list[int]],
    output_len: int,
) -> dict[str, Any]:
    """All requests at once; output tokens a second over the whole, and host time a decode step."""
    times = WaitingTimes()
    runner = PagedModelRunner(WatchedBackend(backend, times), cache=cache, scheduler=scheduler)
    clock = MonotonicClock()
    core = EngineCore(
        Scheduler(scheduler, cache), runner, clock, max_in_flight=backend.max_in_flight
    )
    params = SamplingParams(max_tokens=output_len, temperature=0.0, ignore_eos=True)
    started = time.perf_counter()
    for number, prompt in enumerate(prompts):
        request = Request(f"r{number}", prompt, sampling_params=params, arrival_time=clock.now())
        rejection = core.add_request(request)
        if rejection is not None:
            raise RuntimeError(f"the engine refused a request of the benchmark: {rejection}")
    num_tokens, host_us, step_ms = 0, [], []
    while core.has_work():
        step_started, waited_s = time.perf_counter(), times.waited_s
        submitted = len(times.decodes_alone)
        outputs = core.step()
        took_s = time.perf_counter() - step_started
        num_tokens += sum(map(len, outputs.new_token_ids))
        new = times.decodes_alone[submitted:]
        # With two in flight a call of `step` books one step and submits another.
        if len(new) == 1 and new[0]:
            host_us.append((took_s - (times.waited_s - waited_s)) * 1e6)
            step_ms.append(took_s * 1e3)
    seconds = time.perf_counter() - started
    return {
        "num_requests": len(prompts),
        "prompt_len": len(prompts[0]),
        "output_len": output_len,
        "seconds": round(seconds, 2),
        "output_tokens_per_s": round(num_tokens / seconds),
        "num_steps": len(times.decodes_alone),
        "num_decode_steps": len(step_ms),
        "decode_step_ms": round(median(step_ms), 2) if step_ms else None,
        "host_us_per_decode_step": round(median(host_us)) if host_us else None,
    }
