"""What a step costs the host beside the model: scheduling, arrays, booking, at rest and ahead.

    python -m shoal.benchmarks.scheduler.host_step [--rounds 12]

The engine core and its runner as they serve, over a backend that computes nothing, on the workload
of this benchmark: 256 decodes that never end (and a clock that stands still, so that prompts are
through at once). Both ways take turns, a round each.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from statistics import median

import numpy as np

from shoal.benchmarks.environment import environment
from shoal.benchmarks.scheduler.workload import (
    BLOCK_SIZE,
    MAX_MODEL_LEN,
    NUM_BLOCKS,
    NUM_SEQS,
    STEPS_PER_ROUND,
    WARM_UP_STEPS,
    prompts,
)
from shoal.clock import VirtualClock
from shoal.engine.core.config import CacheConfig, SchedulerConfig
from shoal.engine.core.output import TokenLogprobs
from shoal.engine.core.request import Request
from shoal.engine.core.sampling_params import SamplingParams
from shoal.engine.core.scheduler import Scheduler
from shoal.engine.engine_core import EngineCore
from shoal.engine.runner.backend import PendingSample
from shoal.engine.runner.input_batch import StepInputs
from shoal.engine.runner.model_runner import PagedModelRunner
from shoal.engine.runner.pending import Computed
from shoal.engine.runner.sampling_plan import LongInts, SamplerOutput, SamplingPlan


class NoModel:
    """Samples token 7 everywhere, at once."""

    vocab_size = 32_000

    def __init__(self, max_in_flight: int) -> None:
        self.max_in_flight = max_in_flight

    def submit(
        self, inputs: StepInputs, tokens: LongInts, plan: SamplingPlan | None
    ) -> PendingSample:
        return Computed(SamplerOutput(np.full(len(tokens), 7, np.int64), {}, []))

    def token_logprobs(
        self, tokens: LongInts, targets: LongInts, *, num_top: int
    ) -> list[TokenLogprobs]:
        raise NotImplementedError("nobody asks for log-probabilities here")


def make_core(max_in_flight: int) -> EngineCore:
    """An engine in the middle of 256 answers."""
    config = SchedulerConfig(
        max_num_seqs=NUM_SEQS, max_num_batched_tokens=8192, max_model_len=MAX_MODEL_LEN
    )
    cache = CacheConfig(num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE)
    runner = PagedModelRunner(NoModel(max_in_flight), cache=cache, scheduler=config)
    core = EngineCore(Scheduler(config, cache), runner, VirtualClock(), max_in_flight=max_in_flight)
    for i, prompt in enumerate(prompts()):
        params = SamplingParams(max_tokens=MAX_MODEL_LEN, ignore_eos=True)
        rejection = core.add_request(
            Request(str(i), prompt, sampling_params=params, arrival_time=float(i))
        )
        if rejection is not None:
            raise SystemExit(rejection.message)
    for _ in range(WARM_UP_STEPS):
        core.step()
    return core


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    args = parser.parse_args()
    cores = {"at rest": make_core(1), "ahead": make_core(2)}
    gc.collect()
    gc.freeze()
    times: dict[str, list[float]] = {name: [] for name in cores}
    for _ in range(args.rounds):
        for name, core in cores.items():
            for _ in range(STEPS_PER_ROUND):
                start = time.perf_counter()
                core.step()
                times[name].append((time.perf_counter() - start) * 1e6)
    for name, of_way in times.items():
        print(f"{name:>8}: a step of 256 decodes costs the host {median(of_way):6.1f} us (median)")
    result = {
        "benchmark": "host_step",
        "at_rest_us_median": round(median(times["at rest"]), 1),
        "ahead_us_median": round(median(times["ahead"]), 1),
        "steps": len(times["ahead"]),
        **environment(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
