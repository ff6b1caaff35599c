"""Triton bodies of MLA decode: a split of the keys a program, then the splits merged."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..dispatch import gpu_of
from ..launch.mla_decode import hopper_mla_decode, mla_decode_config

LOG2_E = 1.4426950408889634


@triton.jit
def _split_kernel(
    query_ptr,
    cache_ptr,
    tables_ptr,
    seq_lens_ptr,
    out_ptr,
    lse_ptr,
    partial_ptr,
    partial_lse_ptr,
    factor,
    num_heads,
    stride_query_seq,
    stride_query_head,
    stride_cache_block,
    stride_cache_slot,
    stride_tables,
    stride_out_seq,
    stride_out_head,
    max_splits,
    BLOCK_SIZE: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    ROPE_DIM: tl.constexpr,
    PADDED_VALUE: tl.constexpr,
    PADDED_ROPE: tl.constexpr,
    SPLIT_SIZE: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Online softmax over keys [split * SPLIT_SIZE, + SPLIT_SIZE) of one sequence, BLOCK_H heads.

    A sequence of one split is written to `out` at once. Otherwise the partial result is kept, each
    normalized by its own sum, with its log2 sum: merging needs no more than these two.
    """
    head_block, split, seq = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    seq_len = tl.load(seq_lens_ptr + seq)
    num_splits = tl.maximum(tl.cdiv(seq_len, SPLIT_SIZE), 1)
    if split >= num_splits:
        return
    begin = split * SPLIT_SIZE
    end = tl.minimum(begin + SPLIT_SIZE, seq_len)

    heads = head_block * BLOCK_H + tl.arange(0, BLOCK_H)
    dims = tl.arange(0, PADDED_VALUE)
    ropes = tl.arange(0, PADDED_ROPE)
    in_head = heads < num_heads
    in_value = dims < VALUE_DIM
    in_rope = ropes < ROPE_DIM
    query_row = query_ptr + seq.to(tl.int64) * stride_query_seq + heads * stride_query_head
    query = tl.load(
        query_row[:, None] + dims[None, :], mask=in_head[:, None] & in_value[None, :], other=0.0
    )
    query_rope = tl.load(
        query_row[:, None] + VALUE_DIM + ropes[None, :],
        mask=in_head[:, None] & in_rope[None, :],
        other=0.0,
    )
    table = tables_ptr + seq.to(tl.int64) * stride_tables
    offsets = tl.arange(0, BLOCK_N)
    top = tl.full([BLOCK_H], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_H], tl.float32)
    acc = tl.zeros([BLOCK_H, PADDED_VALUE], tl.float32)
    for start in range(begin, end, BLOCK_N):
        keys = start + offsets
        held = keys < end
        blocks = tl.load(table + keys // BLOCK_SIZE, mask=held, other=0).to(tl.int64)
        row = cache_ptr + blocks * stride_cache_block + (keys % BLOCK_SIZE) * stride_cache_slot
        # Slots behind the end may hold NaN: never read, so that 0 * value stays 0.
        value = tl.load(
            row[:, None] + dims[None, :], mask=held[:, None] & in_value[None, :], other=0.0
        )
        rope = tl.load(
            row[:, None] + VALUE_DIM + ropes[None, :],
            mask=held[:, None] & in_rope[None, :],
            other=0.0,
        )
        scores = tl.dot(query, tl.trans(value), input_precision="ieee")
        scores = tl.dot(query_rope, tl.trans(rope), scores, input_precision="ieee")
        scores = tl.where(held[None, :], scores * factor, float("-inf"))
        new_top = tl.maximum(top, tl.max(scores, 1))
        weights = tl.exp2(scores - new_top[:, None])
        shrink = tl.exp2(top - new_top)
        total = total * shrink + tl.sum(weights, 1)
        acc *= shrink[:, None]
        acc = tl.dot(weights.to(value.dtype), value, acc, input_precision="ieee")
        top = new_top
    # An empty sequence has a sum of zero: its result is zero, its log -inf.
    divisor = tl.where(total > 0, total, 1.0)
    acc = acc / divisor[:, None]
    log = top + tl.log2(divisor)
    mask = in_head[:, None] & in_value[None, :]
    if num_splits == 1:
        out = out_ptr + seq.to(tl.int64) * stride_out_seq + heads * stride_out_head
        tl.store(out[:, None] + dims[None, :], acc.to(out_ptr.dtype.element_ty), mask=mask)
        tl.store(
            lse_ptr + seq.to(tl.int64) * num_heads + heads, log * 0.6931471805599453, mask=in_head
        )
    else:
        place = (seq.to(tl.int64) * max_splits + split) * num_heads + heads
        tl.store(partial_ptr + place[:, None] * VALUE_DIM + dims[None, :], acc, mask=mask)
        tl.store(partial_lse_ptr + place, log, mask=in_head)


@triton.jit
def _merge_kernel(
    seq_lens_ptr,
    out_ptr,
    lse_ptr,
    partial_ptr,
    partial_lse_ptr,
    num_heads,
    stride_out_seq,
    stride_out_head,
    max_splits,
    VALUE_DIM: tl.constexpr,
    PADDED_VALUE: tl.constexpr,
    SPLIT_SIZE: tl.constexpr,
):
    """sum_s 2^(log_s - log) * partial_s with log = log2 sum_s 2^log_s, splits in order."""
    head, seq = tl.program_id(0), tl.program_id(1)
    num_splits = tl.cdiv(tl.load(seq_lens_ptr + seq), SPLIT_SIZE)
    if num_splits <= 1:
        return
    dims = tl.arange(0, PADDED_VALUE)
    in_value = dims < VALUE_DIM
    place = seq.to(tl.int64) * max_splits * num_heads + head
    top = tl.load(partial_lse_ptr + place)
    for split in range(1, num_splits):
        top = tl.maximum(top, tl.load(partial_lse_ptr + place + split * num_heads))
    total = 0.0
    acc = tl.zeros([PADDED_VALUE], tl.float32)
    for split in range(num_splits):
        at = place + split * num_heads
        weight = tl.exp2(tl.load(partial_lse_ptr + at) - top)
        total += weight
        acc += weight * tl.load(partial_ptr + at * VALUE_DIM + dims, mask=in_value, other=0.0)
    out = out_ptr + seq.to(tl.int64) * stride_out_seq + head * stride_out_head
    tl.store(out + dims, (acc / total).to(out_ptr.dtype.element_ty), mask=in_value)
    log = (top + tl.log2(total)) * 0.6931471805599453
    tl.store(lse_ptr + seq.to(tl.int64) * num_heads + head, log)


def mla_decode_triton(
    query: Tensor,
    latent_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    scale: float,
    max_seq_len: int,
    out: Tensor,
    lse: Tensor,
) -> None:
    """Launch both kernels; the second only where a sequence may have more than one split."""
    num_seqs, num_heads, key_dim = query.shape
    value_dim = out.shape[2]
    gpu = gpu_of(query.device)
    hopper = hopper_mla_decode(
        gpu,
        num_heads=num_heads,
        value_dim=value_dim,
        element_bytes=query.element_size(),
        cache_shape=latent_cache.shape,
        cache_strides=latent_cache.stride(),
    )
    if not (query.is_cuda and query.is_contiguous() and latent_cache.data_ptr() % 16 == 0):
        hopper = None
    config = mla_decode_config(gpu, num_heads=num_heads, element_bytes=query.element_size())
    split_size = config.split_size if hopper is None else hopper.split_size
    max_splits = max(-(-max_seq_len // split_size), 1)
    kept = max_splits if max_splits > 1 else 0
    partial = query.new_empty((num_seqs, kept, num_heads, value_dim), dtype=torch.float32)
    partial_lse = query.new_empty((num_seqs, kept, num_heads), dtype=torch.float32)
    padded_value = max(triton.next_power_of_2(value_dim), 16)
    if hopper is not None:
        from .mla_decode_hopper import launch_splits

        launch_splits(
            query, latent_cache, block_tables, seq_lens, out, lse, partial, partial_lse,
            scale * LOG2_E, max_splits, hopper,
        )  # fmt: skip
    else:
        _split_kernel[(triton.cdiv(num_heads, config.block_h), max_splits, num_seqs)](
            query,
            latent_cache,
            block_tables,
            seq_lens,
            out,
            lse,
            partial,
            partial_lse,
            scale * LOG2_E,
            num_heads,
            query.stride(0),
            query.stride(1),
            latent_cache.stride(0),
            latent_cache.stride(1),
            block_tables.stride(0),
            out.stride(0),
            out.stride(1),
            max_splits,
            BLOCK_SIZE=latent_cache.shape[1],
            VALUE_DIM=value_dim,
            ROPE_DIM=key_dim - value_dim,
            PADDED_VALUE=padded_value,
            PADDED_ROPE=max(triton.next_power_of_2(key_dim - value_dim), 16),
            SPLIT_SIZE=split_size,
            BLOCK_H=config.block_h,
            BLOCK_N=config.block_n,
            num_warps=config.num_warps,
            num_stages=config.num_stages,
        )
    if kept:
        _merge_kernel[(num_heads, num_seqs)](
            seq_lens,
            out,
            lse,
            partial,
            partial_lse,
            num_heads,
            out.stride(0),
            out.stride(1),
            max_splits,
            VALUE_DIM=value_dim,
            PADDED_VALUE=padded_value,
            SPLIT_SIZE=split_size,
            num_warps=4,
        )
