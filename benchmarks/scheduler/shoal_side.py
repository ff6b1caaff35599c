"""Shoal's scheduler under the benchmark's workload; with `--ahead` while a step is in flight."""

from __future__ import annotations

import sys
import time
from collections import deque

from shoal import __version__
from shoal.benchmarks.scheduler.workload import (
    BLOCK_SIZE,
    MAX_MODEL_LEN,
    NUM_BLOCKS,
    NUM_SEQS,
    answer_rounds,
    prompts,
)
from shoal.engine.core.config import CacheConfig, SchedulerConfig
from shoal.engine.core.output import ModelRunnerOutput, SchedulerOutput
from shoal.engine.core.request import Request
from shoal.engine.core.sampling_params import SamplingParams
from shoal.engine.core.scheduler import Scheduler


def main() -> None:
    scheduler = Scheduler(
        SchedulerConfig(
            max_num_seqs=NUM_SEQS, max_num_batched_tokens=8192, max_model_len=MAX_MODEL_LEN
        ),
        CacheConfig(num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE),
    )
    for i, prompt in enumerate(prompts()):
        params = SamplingParams(max_tokens=MAX_MODEL_LEN, ignore_eos=True)
        request = Request(f"request-{i}", prompt, sampling_params=params, arrival_time=float(i))
        if (rejection := scheduler.add_request(request)) is not None:
            raise SystemExit(rejection.message)
    token_id = 0
    in_flight: deque[SchedulerOutput] = deque()

    def step_ahead() -> float:
        """Each step is decided before the one before it is booked."""
        nonlocal token_id
        start = time.perf_counter()
        out = scheduler.schedule_ahead(0.0) if in_flight else scheduler.schedule(0.0)
        scheduled = time.perf_counter() - start
        assert out is not None
        in_flight.append(out)
        if len(in_flight) == 1:
            return scheduled
        before = in_flight.popleft()
        token_id = (token_id + 1) % 32_000
        req_ids = list(before.num_scheduled_tokens)
        result = ModelRunnerOutput(req_ids, [[token_id] for _ in req_ids])
        start = time.perf_counter()
        scheduler.update_from_output(before, result, 0.0)
        return scheduled + time.perf_counter() - start

    def step() -> float:
        nonlocal token_id
        start = time.perf_counter()
        out = scheduler.schedule(0.0)
        scheduled = time.perf_counter() - start
        token_id = (token_id + 1) % 32_000
        # As in a real step, partial prefills sample nothing.
        req_ids = list(out.num_scheduled_tokens)
        result = ModelRunnerOutput(req_ids, [[token_id] for _ in req_ids])
        start = time.perf_counter()
        scheduler.update_from_output(out, result, 0.0)
        return scheduled + time.perf_counter() - start

    answer_rounds(step_ahead if "--ahead" in sys.argv[1:] else step, __version__)


if __name__ == "__main__":
    main()
