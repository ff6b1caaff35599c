"""The plan that the device makes is the plan that its twin makes on the host."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from shoal.kernels.attention_plan import ITEM, TilePlan, plan_tiles_torch
from shoal.kernels.launch.paged_attention import TileShape
from shoal.kernels.ragged_batch import RaggedBatch
from shoal.kernels.triton.attention_plan import plan_tiles_triton

SHAPE = TileShape(min_query_len=1, max_query_len=16, tokens=4, split_size=64, row_budget=8)
CHUNKS = dataclasses.replace(SHAPE, min_query_len=5, max_query_len=1 << 30, row_budget=64)


def batch_of(
    requests: list[tuple[int, int]], device: torch.device, window: int | None = None
) -> RaggedBatch:
    starts = torch.tensor([0, *(q for q, _ in requests)]).cumsum(0)
    return RaggedBatch(
        query_start_loc=starts.to(torch.int32).to(device),
        seq_lens=torch.tensor([n for _, n in requests], dtype=torch.int32, device=device),
        block_tables=torch.zeros(len(requests), 1, dtype=torch.int32, device=device),
        slot_mapping=torch.zeros(int(starts[-1]), dtype=torch.int64, device=device),
        block_size=16,
        max_query_len=max((q for q, _ in requests), default=0),
        max_seq_len=max((n for _, n in requests), default=0),
        sliding_window=window,
    )


def empty_plan(batch: RaggedBatch, shape: TileShape, partial_rows: int) -> TilePlan:
    return TilePlan(
        shape=shape,
        items=batch.seq_lens.new_full((400, ITEM), -7),
        num_kv_heads=3,
        max_partial_rows=partial_rows,
    )


REQUESTS = [(1, 1), (1, 64), (1, 65), (3, 700), (0, 0), (16, 130), (40, 300), (7, 7), (1, 5000)]


@pytest.mark.parametrize(
    ("shape", "partial_rows", "causal", "window"),
    [
        (SHAPE, 1000, True, None),
        (SHAPE, 20, True, 65),
        (SHAPE, 1000, True, 1),
        (SHAPE, 1000, False, None),
        (CHUNKS, 1000, True, 200),
        (CHUNKS, 100, False, None),
        (dataclasses.replace(SHAPE, splits=False), 1000, True, None),
    ],
)
def test_as_its_twin(
    shape: TileShape, partial_rows: int, causal: bool, window: int | None, device: torch.device
) -> None:
    first_keys = (
        None
        if window
        else torch.tensor([0, 10, 64, 128, 0, 5, 0, 0, 4096], dtype=torch.int32, device=device)
    )
    batch = batch_of(REQUESTS, device, window)
    plan, twin = (empty_plan(batch, shape, partial_rows) for _ in range(2))
    plan_tiles_triton(batch, plan, causal, first_keys)
    plan_tiles_torch(batch, twin, causal, first_keys)
    assert torch.equal(plan.items, twin.items)  # and nothing else is touched
    assert 0 < twin.items[0, 9] < 400
    assert (twin.items[:, 9] == twin.items[0, 9]).all()


def test_no_requests(device: torch.device) -> None:
    batch = batch_of([], device)
    plan = empty_plan(batch, SHAPE, 0)
    plan_tiles_triton(batch, plan, True, None)
    assert (plan.items == -7).all()
