"""Triton body of prefill attention: a tile of one head's queries, its keys through the block table.

GPUs with Hopper's matrix units have a body of their own, in prefill_attention_hopper.py; this one
runs everywhere, Triton's interpreter included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl
from torch import Tensor

from ..dispatch import gpu_of
from ..launch.prefill_attention import hopper_prefill, prefill_config

if TYPE_CHECKING:
    from ..ragged_batch import RaggedBatch

LOG2_E = 1.4426950408889634


@triton.jit
def _step(
    query,
    key_row,
    value_row,
    table,
    start,
    positions,
    first_key,
    seq_len,
    window,
    top,
    total,
    acc,
    factor,
    stride_key_block,
    stride_key_slot,
    stride_value_block,
    stride_value_slot,
    in_dim,
    MASKED: tl.constexpr,
    WINDOWED: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """One tile of keys: scores, the new maximum, and what was summed so far shrunk to it."""
    keys = start + tl.arange(0, BLOCK_N)
    # Slots behind the end may hold NaN: never read, so that 0 * value stays 0. Blocks before the
    # window belong to somebody else.
    held = (keys >= first_key) & (keys < seq_len) if MASKED else keys >= 0
    blocks = tl.load(table + keys // BLOCK_SIZE, mask=held, other=0).to(tl.int64)
    slots = keys % BLOCK_SIZE
    mask = held[:, None] & in_dim[None, :]
    key = tl.load(
        key_row[None, :] + (blocks * stride_key_block + slots * stride_key_slot)[:, None],
        mask=mask,
        other=0.0,
    )
    scores = tl.dot(query, tl.trans(key), input_precision="ieee") * factor
    if MASKED:
        seen = keys[None, :] <= positions[:, None]
        if WINDOWED:
            seen &= keys[None, :] > positions[:, None] - window
        scores = tl.where(seen, scores, float("-inf"))
    new_top = tl.maximum(top, tl.max(scores, 1))
    # With a window, a row may have seen no key so far.
    shift = tl.where(new_top == float("-inf"), 0.0, new_top) if WINDOWED else new_top
    weights = tl.exp2(scores - shift[:, None])
    shrink = tl.exp2(top - shift)
    value = tl.load(
        value_row[None, :] + (blocks * stride_value_block + slots * stride_value_slot)[:, None],
        mask=mask,
        other=0.0,
    )
    acc = tl.dot(weights.to(value.dtype), value, acc * shrink[:, None], input_precision="ieee")
    return new_top, total * shrink + tl.sum(weights, 1), acc


@triton.jit
def _prefill_kernel(
    query_ptr,
    key_ptr,
    value_ptr,
    out_ptr,
    lse_ptr,
    tables_ptr,
    query_start_ptr,
    seq_lens_ptr,
    factor,
    num_reqs,
    min_query_len,
    window,
    stride_query_token,
    stride_query_head,
    stride_key_block,
    stride_key_slot,
    stride_key_head,
    stride_value_block,
    stride_value_slot,
    stride_value_head,
    stride_out_token,
    stride_out_head,
    stride_tables,
    GROUP: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    WINDOWED: tl.constexpr,
    WITH_LSE: tl.constexpr,
):
    """Online softmax (Milakov and Gimelshein, 2018) of BLOCK_M queries over all keys they see.

    Request r has room for its tiles from `query_start[r] // BLOCK_M + r` on, whatever the lengths
    are: so the grid follows from the number of tokens. Every key tile but the last few is seen in
    full and needs no mask.
    """
    head = tl.program_id(0)
    tile = tl.program_id(1)
    low, high = tile * 0, num_reqs + tile * 0
    while high - low > 1:
        middle = (low + high) // 2
        if tl.load(query_start_ptr + middle) // BLOCK_M + middle <= tile:
            low = middle
        else:
            high = middle
    first_token = tl.load(query_start_ptr + low)
    query_len = tl.load(query_start_ptr + low + 1) - first_token
    seq_len = tl.load(seq_lens_ptr + low)
    tile -= first_token // BLOCK_M + low
    tile = tl.cdiv(query_len, BLOCK_M) - 1 - tile  # the tile with the most keys first
    if (tile < 0) | (query_len < min_query_len):
        return
    rows = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    positions = seq_len - query_len + rows
    first_position = seq_len - query_len + tile * BLOCK_M
    num_keys = tl.minimum(first_position + BLOCK_M, seq_len)
    num_full = (first_position + 1) // BLOCK_N * BLOCK_N
    first_key = 0
    if WINDOWED:  # every tile is masked
        first_key = tl.maximum(first_position - window + 1, 0)
        num_full = first_key // BLOCK_N * BLOCK_N

    dims = tl.arange(0, PADDED_DIM)
    in_dim = dims < HEAD_DIM
    kv_head = head // GROUP
    tokens = (first_token + rows).to(tl.int64)
    mask = (rows < query_len)[:, None] & in_dim[None, :]
    query = tl.load(
        query_ptr + tokens[:, None] * stride_query_token + head * stride_query_head + dims[None, :],
        mask=mask,
        other=0.0,
    )
    table = tables_ptr + low.to(tl.int64) * stride_tables
    key_row = key_ptr + kv_head.to(tl.int64) * stride_key_head + dims
    value_row = value_ptr + kv_head.to(tl.int64) * stride_value_head + dims
    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, PADDED_DIM], tl.float32)
    if not WINDOWED:
        for start in range(0, num_full, BLOCK_N):
            top, total, acc = _step(
                query, key_row, value_row, table, start, positions, first_key, seq_len, window,
                top, total, acc, factor, stride_key_block, stride_key_slot, stride_value_block,
                stride_value_slot, in_dim, False, WINDOWED, BLOCK_SIZE, BLOCK_N,
            )  # fmt: skip
    for start in range(num_full, num_keys, BLOCK_N):
        top, total, acc = _step(
            query, key_row, value_row, table, start, positions, first_key, seq_len, window,
            top, total, acc, factor, stride_key_block, stride_key_slot, stride_value_block,
            stride_value_slot, in_dim, True, WINDOWED, BLOCK_SIZE, BLOCK_N,
        )  # fmt: skip
    if WINDOWED:  # rows behind the last query may see nothing; they are not stored
        total = tl.where(total > 0, total, 1.0)
    out = out_ptr + tokens[:, None] * stride_out_token + head * stride_out_head + dims[None, :]
    tl.store(out, (acc / total[:, None]).to(out_ptr.dtype.element_ty), mask=mask)
    if WITH_LSE:
        num_heads = tl.num_programs(0)
        lse = (top + tl.log2(total)) * 0.6931471805599453
        tl.store(lse_ptr + tokens * num_heads + head, lse, mask=rows < query_len)


def prefill_attention_triton(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: RaggedBatch,
    scale: float,
    min_query_len: int,
    out: Tensor,
    lse: Tensor | None,
) -> None:
    """Launch the body for this GPU. See `prefill_attention` for the arguments."""
    num_tokens, num_q_heads, head_dim = query.shape
    block_size, num_kv_heads = key_cache.shape[1:3]
    gpu, window = gpu_of(query.device), batch.sliding_window
    tensors = query, key_cache, value_cache
    if query.is_cuda and all(tensor.data_ptr() % 16 == 0 for tensor in tensors):
        hopper = hopper_prefill(
            gpu,
            element_bytes=query.element_size(),
            query_strides=query.stride(),
            cache_shape=tuple(key_cache.shape),
            cache_strides=(key_cache.stride(), value_cache.stride()),
        )
        if hopper is not None:
            from .prefill_attention_hopper import prefill_attention_hopper as launch

            launch(query, key_cache, value_cache, batch, scale, min_query_len, out, lse, hopper)
            return
    config = prefill_config(gpu, head_dim=head_dim, element_bytes=query.element_size())
    _prefill_kernel[(num_q_heads, num_tokens // config.block_m + batch.num_reqs)](
        query,
        key_cache,
        value_cache,
        out,
        out if lse is None else lse,
        batch.block_tables,
        batch.query_start_loc,
        batch.seq_lens,
        scale * LOG2_E,
        batch.num_reqs,
        min_query_len,
        0 if window is None else window,
        query.stride(0),
        query.stride(1),
        key_cache.stride(0),
        key_cache.stride(1),
        key_cache.stride(2),
        value_cache.stride(0),
        value_cache.stride(1),
        value_cache.stride(2),
        out.stride(0),
        out.stride(1),
        batch.block_tables.stride(0),
        GROUP=num_q_heads // num_kv_heads,
        BLOCK_SIZE=block_size,
        HEAD_DIM=head_dim,
        PADDED_DIM=max(triton.next_power_of_2(head_dim), 16),
        BLOCK_M=config.block_m,
        BLOCK_N=config.block_n,
        WINDOWED=window is not None,
        WITH_LSE=lse is not None,
        num_warps=config.num_warps,
        num_stages=config.num_stages,
    )
