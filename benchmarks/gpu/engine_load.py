"""Many requests through scheduler and runner in this process: throughput, and the host's share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch

from shoal.clock import MonotonicClock
from shoal.engine.core.config import CacheConfig, SchedulerConfig
from shoal.engine.core.request import Request
from shoal.engine.core.sampling_params import SamplingParams
from shoal.engine.core.scheduler import Scheduler
from shoal.engine.engine_core import EngineCore
from shoal.engine.runner.backend import PendingSample
from shoal.engine.runner.cuda_backend import CudaBackend
from shoal.engine.runner.input_batch import StepInputs
from shoal.engine.runner.model_runner import PagedModelRunner
from shoal.engine.runner.sampling_plan import LongInts, SamplerOutput, SamplingPlan
from shoal.engine.runner.step_ranges import no_ranges


class StepTimes:
    """A backend's `ranges` and results, listened to: waits of the host, gaps of the device.

    A gap begins when a step's last kernel or copy has run, and ends when the next step's inputs are
    on the device: their copy, and whatever the device waited for the host.
    """

    def __init__(self) -> None:
        self.waited_s = 0.0
        self.decodes_alone: list[bool] = []
        """Of each step: whether all of its requests computed one token."""
        self._ready: list[torch.cuda.Event] = []
        self._done: list[torch.cuda.Event] = []

    @contextmanager
    def ranges(self, name: str) -> Iterator[None]:
        if name == "forward":
            self._ready.append(_recorded_event())
        yield
        if name == "sample":
            # A step without a sample has no end of its own; prompts make it long enough to ignore.
            self._done.append(_recorded_event())

    def decode_gaps_us(self) -> list[float]:
        """Gaps before decode steps that follow a decode step. Waits for the device."""
        torch.cuda.synchronize()
        if len(self._ready) != len(self._done):
            return []
        return [
            self._done[i - 1].elapsed_time(self._ready[i]) * 1e3
            for i in range(1, len(self._ready))
            if self.decodes_alone[i - 1] and self.decodes_alone[i]
        ]


class WatchedBackend:
    """A backend whose results say how long the host waited for them."""

    def __init__(self, backend: CudaBackend, times: StepTimes) -> None:
        self.vocab_size = backend.vocab_size
        self.max_in_flight = backend.max_in_flight
        self.token_logprobs = backend.token_logprobs
        self._backend = backend
        self._times = times
        backend.ranges = times.ranges

    def submit(
        self, inputs: StepInputs, tokens: LongInts, plan: SamplingPlan | None
    ) -> PendingSample:
        self._times.decodes_alone.append(bool((inputs.query_lens == 1).all()))
        return _Watched(self._backend.submit(inputs, tokens, plan), self._times)


class _Watched:
    def __init__(self, pending: PendingSample, times: StepTimes) -> None:
        self._pending = pending
        self._times = times

    def result(self) -> SamplerOutput | None:
        started = time.perf_counter()
        result = self._pending.result()
        self._times.waited_s += time.perf_counter() - started
        return result


def _recorded_event() -> torch.cuda.Event:
    event: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def measure_load(
    backend: CudaBackend,
    scheduler: SchedulerConfig,
    cache: CacheConfig,
    *,
    prompts: list[list[int]],
    output_len: int,
) -> dict[str, Any]:
    """All requests at once; output tokens a second over the whole, and the host's share of it."""
    times = StepTimes()
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
    gaps_us = times.decode_gaps_us()
    backend.ranges = no_ranges
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
        "device_gap_us": round(median(gaps_us), 1) if gaps_us else None,
    }
