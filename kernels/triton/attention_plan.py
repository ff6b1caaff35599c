"""Triton body of `kernels.attention_plan`."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ..attention_plan import FAR as _FAR
from ..attention_plan import ITEM as _ITEM
from ..attention_plan import TilePlan
from ..launch.paged_attention import MAX_PROGRAMS
from ..ragged_batch import RaggedBatch

FAR = tl.constexpr(_FAR)
ITEM = tl.constexpr(_ITEM)


def plan_tiles_triton(
    batch: RaggedBatch, plan: TilePlan, causal: bool, first_keys: Tensor | None
) -> None:
    """Fill `plan`: one program a request, each of which counts what those before it need."""
    num_reqs, shape = batch.num_reqs, plan.shape
    if not num_reqs:
        return
    requests = triton.next_power_of_2(num_reqs)
    _plan_tiles_kernel[(num_reqs,)](
        plan.items,
        batch.query_start_loc, batch.seq_lens,
        batch.seq_lens if first_keys is None else first_keys,
        num_reqs, batch.sliding_window or 0, plan.max_partial_rows,
        min(plan.items.shape[0], MAX_PROGRAMS),
        MIN_QUERY_LEN=max(shape.min_query_len, 1),
        MAX_QUERY_LEN=shape.max_query_len,
        TOKENS=shape.tokens,
        SPLIT_SIZE=shape.split_size,
        ROW_BUDGET=shape.row_budget,
        SPLITS=shape.splits,
        CAUSAL=causal,
        HAS_WINDOW=batch.sliding_window is not None,
        HAS_FIRST_KEYS=first_keys is not None,
        REQUESTS=requests,
        BLOCK=128,
        num_warps=4 if requests <= 1024 else 8,
    )  # fmt: skip


@triton.jit
def _of(values, requests, request):
    """The entry of `request` in a vector over requests."""
    return tl.sum(tl.where(requests == request, values, 0))


@triton.jit
def _plan_tiles_kernel(
    items_ptr,
    query_start_loc_ptr, seq_lens_ptr, first_keys_ptr,
    num_reqs, window, max_partial_rows, num_starts,
    MIN_QUERY_LEN: tl.constexpr, MAX_QUERY_LEN: tl.constexpr, TOKENS: tl.constexpr,
    SPLIT_SIZE: tl.constexpr, ROW_BUDGET: tl.constexpr, SPLITS: tl.constexpr,
    CAUSAL: tl.constexpr, HAS_WINDOW: tl.constexpr, HAS_FIRST_KEYS: tl.constexpr,
    REQUESTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The items of one request, at the place that the requests before it leave."""
    request = tl.program_id(0)
    requests = tl.arange(0, REQUESTS)
    held = requests < num_reqs
    starts = tl.load(query_start_loc_ptr + requests, mask=held, other=0)
    query_lens = tl.load(query_start_loc_ptr + requests + 1, mask=held, other=0) - starts
    seq_lens = tl.load(seq_lens_ptr + requests, mask=held, other=0)
    held &= (query_lens >= MIN_QUERY_LEN) & (query_lens <= MAX_QUERY_LEN)
    first_positions = seq_lens - query_lens
    if not CAUSAL:
        first_positions = tl.full([REQUESTS], FAR, tl.int32)
    first_keys = tl.zeros([REQUESTS], tl.int32)
    if HAS_FIRST_KEYS:
        first_keys = tl.load(first_keys_ptr + requests, mask=held, other=0)
    first_seen = first_keys
    if HAS_WINDOW:
        first_seen = tl.maximum(first_seen, first_positions - window + 1)

    size = tl.full([REQUESTS], SPLIT_SIZE, tl.int32)
    num_splits = tl.full([REQUESTS], 1, tl.int32)
    if SPLITS:
        max_splits = tl.maximum(ROW_BUDGET // tl.maximum(query_lens, 1), 1)
        for _ in range(20):
            # In fp32 a product beyond 2^31 does not wrap; powers of two lose nothing.
            short = size.to(tl.float32) * max_splits < seq_lens
            size = tl.where(short, size * 2, size)
        last_key = tl.maximum(seq_lens - 1, first_seen)
        num_splits = last_key // size - first_seen // size + 1
    wanted = tl.where(held & (num_splits > 1), query_lens * num_splits, 0)
    wanted_end = tl.cumsum(wanted, 0)
    is_split = (wanted > 0) & (wanted_end <= max_partial_rows)
    num_splits = tl.where(is_split, num_splits, 1)
    num_tiles = (query_lens + TOKENS - 1) // TOKENS
    num_items = tl.where(held, num_tiles * num_splits, 0)
    # Rows behind the items, where programs without work begin.
    total = tl.sum(num_items)
    for i in range(total + request * BLOCK, num_starts, num_reqs * BLOCK):
        index = i + tl.arange(0, BLOCK)
        row_ptr = items_ptr + index.to(tl.int64) * ITEM
        tl.store(row_ptr + 9, total + 0 * index, mask=index < num_starts)

    my_items = _of(num_items, requests, request)
    if my_items == 0:
        return
    before = requests < request
    first_item = tl.sum(tl.where(before, num_items, 0))
    start = _of(starts, requests, request)
    query_len = _of(query_lens, requests, request)
    seq_len = _of(seq_lens, requests, request)
    first_key = _of(first_keys, requests, request)
    first_position = _of(first_positions, requests, request)
    splits = _of(num_splits, requests, request)
    split_keys = tl.where(splits > 1, _of(size, requests, request), FAR)
    first_split = tl.where(splits > 1, _of(first_seen, requests, request) // split_keys, 0)
    partial_row = _of(wanted_end - wanted, requests, request)

    for i in range(0, my_items, BLOCK):
        index = i + tl.arange(0, BLOCK)
        mask = index < my_items
        split = index % splits
        token = index // splits * TOKENS
        num_tokens = tl.minimum(query_len - token, TOKENS)
        position = first_position + token if CAUSAL else first_position + 0 * token
        low = (first_split + split) * split_keys
        begin = tl.maximum(low, first_key)
        if HAS_WINDOW:
            begin = tl.maximum(begin, position - window + 1)
        end = tl.minimum(tl.minimum(low + split_keys, seq_len), position + num_tokens)
        # Tile after tile, and in a tile split after split.
        tile_row = partial_row + token * splits
        row = tl.where(splits > 1, tile_row + split * num_tokens, -1)
        item_ptr = items_ptr + (first_item + index).to(tl.int64) * ITEM
        tl.store(item_ptr, start + token, mask=mask)
        tl.store(item_ptr + 1, num_tokens, mask=mask)
        tl.store(item_ptr + 2, position, mask=mask)
        tl.store(item_ptr + 3, begin, mask=mask)
        tl.store(item_ptr + 4, end, mask=mask)
        tl.store(item_ptr + 5, request + 0 * index, mask=mask)
        tl.store(item_ptr + 6, row, mask=mask)
        tl.store(item_ptr + 7, split, mask=mask)
        tl.store(item_ptr + 8, splits + 0 * index, mask=mask)
        tl.store(item_ptr + 9, total + 0 * index, mask=mask)
