"""Builds a SamplingPlan the way the runner does: from requests, through a SamplingTable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shoal.engine.core.output import NewRequestData
from shoal.engine.core.sampling_params import SamplingParams
from shoal.engine.runner.sampling_plan import SamplingPlan
from shoal.engine.runner.sampling_table import SamplingTable, TokenHistory


def make_new(
    prompt: Sequence[int] = (0,),
    output: Sequence[int] = (),
    *,
    request_id: str = "r",
    stop_token_ids: Sequence[int] = (),
    num_computed_tokens: int = 0,
    block_ids: list[list[int]] | None = None,
    **params: Any,
) -> NewRequestData:
    return NewRequestData(
        request_id=request_id,
        token_ids=[*prompt, *output],
        num_prompt_tokens=len(prompt),
        num_computed_tokens=num_computed_tokens,
        sampling_params=SamplingParams(**{"max_tokens": 100, **params}),
        stop_token_ids=frozenset(stop_token_ids),
        block_ids=block_ids if block_ids is not None else [[]],
    )


def make_plan(
    *requests: NewRequestData, vocab_size: int, rows: list[int] | None = None
) -> SamplingPlan:
    """The plan for a step in which all of `requests` sample, from the given rows of the batch."""
    rows = rows if rows is not None else list(range(len(requests)))
    max_num_seqs = max(rows) + 1
    table = SamplingTable(max_num_seqs, vocab_size=vocab_size)
    history = TokenHistory(
        token_ids=np.zeros((max_num_seqs, 64), dtype=np.int32),
        num_prompt_tokens=np.zeros(max_num_seqs, dtype=np.int64),
        num_tokens=np.zeros(max_num_seqs, dtype=np.int64),
    )
    for row, new in zip(rows, requests, strict=True):
        table.set_row(row, new)
        history.token_ids[row, : len(new.token_ids)] = new.token_ids
        history.num_tokens[row] = len(new.token_ids)
        history.num_prompt_tokens[row] = new.num_prompt_tokens
    return table.plan(np.array(rows, dtype=np.int64), history)
