"""A decode step beside its floor: the weights and the KV cache, read once at copy bandwidth."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from shoal.engine.core.config import CacheConfig
from shoal.engine.models.config import ModelConfig
from shoal.engine.runner.cuda_backend import CudaBackend
from shoal.engine.runner.trial_steps import trial_inputs, trial_plan

from .floors import Floors
from .llama_8b import kv_token_bytes, read_weight_bytes

NUM_STEPS = 20


def measure_decode_step(
    backend: CudaBackend,
    model: ModelConfig,
    cache: CacheConfig,
    floors: Floors,
    *,
    num_reqs: int,
    context: int,
) -> dict[str, Any]:
    """Time of greedy decode steps that follow one another, two in flight, from copy to sample."""
    inputs = trial_inputs(
        [1] * num_reqs, seq_len=context, block_size=cache.block_size, num_groups=1
    )
    # Blocks of their own for every request, in no order: KV is read from memory, not from the L2.
    table = inputs.block_tables[0]
    blocks = np.random.default_rng(0).permutation(cache.num_blocks - 1)[: table.size] + 1
    table[:] = blocks.reshape(table.shape)
    plan = trial_plan(num_reqs)

    def run(num_steps: int) -> None:
        pending = None
        for _ in range(num_steps):
            submitted = backend.submit(inputs, inputs.last_tokens, plan)
            if pending is not None:
                pending.result()
            pending = submitted
        if pending is not None:
            pending.result()

    run(3)
    start, end = (
        torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        for _ in range(2)
    )
    start.record()
    run(NUM_STEPS)
    end.record()
    torch.cuda.synchronize()
    step_ms = float(start.elapsed_time(end)) / NUM_STEPS
    num_bytes = read_weight_bytes(model) + num_reqs * context * kv_token_bytes(model)
    floor_ms = num_bytes / floors.copy_bytes_per_s * 1e3
    return {
        "num_reqs": num_reqs,
        "context": context,
        "step_ms": round(step_ms, 3),
        "floor_ms": round(floor_ms, 3),
        "times_floor": round(step_ms / floor_ms, 3),
    }
