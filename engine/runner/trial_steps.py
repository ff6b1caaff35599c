"""Steps that compute nothing of use: to measure memory and to compile before the first request.

All requests read the null block and write nowhere, so a cache of a few blocks will do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.config import SchedulerConfig
from .input_batch import StepInputs
from .sampling_plan import NO_REPORT, Entries, LogitEdits, SamplingPlan


def trial_inputs(
    query_lens: Sequence[int], *, seq_len: int, block_size: int, num_groups: int
) -> StepInputs:
    """A step with these many tokens of requests whose contexts are `seq_len` tokens at most."""
    lens = np.array(query_lens, np.int64)
    num_tokens, num_reqs = int(lens.sum()), len(lens)
    seq_lens = np.maximum(lens, min(seq_len, 1 << 30))
    starts = np.repeat(seq_lens - lens, lens)
    firsts = np.repeat(lens.cumsum() - lens, lens)
    width = -(-int(seq_lens.max()) // block_size)
    return StepInputs(
        req_ids=[f"trial-{i}" for i in range(num_reqs)],
        rows=np.arange(num_reqs),
        query_lens=lens,
        seq_lens=seq_lens,
        samples=np.ones(num_reqs, np.bool_),
        last_tokens=lens.cumsum() - 1,
        input_ids=np.zeros(num_tokens, np.int64),
        positions=starts + np.arange(num_tokens) - firsts,
        block_tables=[np.zeros((num_reqs, width), np.int32) for _ in range(num_groups)],
        slot_mapping=[np.full(num_tokens, -1, np.int64) for _ in range(num_groups)],
    )


def trial_plan(
    num_rows: int,
    *,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    num_logprobs: int = NO_REPORT,
    with_edits: bool = False,
) -> SamplingPlan:
    """All rows sample alike; with_edits: each rule edits one logit of the first row."""
    entry = Entries(np.zeros(1, np.int32), np.zeros(1, np.int32), np.ones(1, np.float32))
    edits = LogitEdits(repetition=entry, presence=entry, frequency=entry, added=entry)
    return SamplingPlan(
        temperature=np.full(num_rows, temperature, np.float32),
        top_k=np.full(num_rows, top_k, np.int32),
        top_p=np.full(num_rows, top_p, np.float32),
        min_p=np.zeros(num_rows, np.float32),
        seeds=np.arange(num_rows, dtype=np.int64),
        positions=np.zeros(num_rows, np.int64),
        num_logprobs=np.full(num_rows, num_logprobs, np.int32),
        edits=edits if with_edits else None,
    )


def largest_step(config: SchedulerConfig) -> list[int]:
    """Tokens of each request in the step that takes most memory: all of the budget, every seat."""
    num_reqs = min(config.max_num_seqs, config.max_num_batched_tokens)
    longest = min(config.max_num_batched_tokens - num_reqs + 1, config.max_model_len)
    return [1] * (num_reqs - 1) + [longest]
