"""The two thin products of low-rank adapters, for tokens sorted by adapter."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_wait

from ..dispatch import gpu_of
from ..launch.lora import LoraConfig, lora_config
from ..lora import LoraMapping
from .quick_launch import dependent_launch
from .tile_loads import with_dense_rows


@triton.jit(do_not_specialize=["num_tokens"])
def _shrink_kernel(
    x_ptr,
    lora_a_ptr,
    ranks_ptr,
    sorted_tokens_ptr,
    adapter_of_block_ptr,
    shrunk_ptr,
    num_tokens,
    dim,
    max_rank,
    stride_x,
    stride_adapter,
    stride_slice,
    stride_rank,
    SPLITS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PDL: tl.constexpr,
):
    """shrunk[split, slice, t, r] = sum over the split's k of A[adapter, slice, r, k] * x[t, k]."""
    block = tl.program_id(0)
    split = tl.program_id(1)
    slice_index = tl.program_id(2)
    if PDL:
        gdc_wait()
    adapter = tl.load(adapter_of_block_ptr + block)
    if adapter < 0:
        return
    rank = tl.load(ranks_ptr + adapter)
    tokens = tl.load(sorted_tokens_ptr + block * BLOCK_M + tl.arange(0, BLOCK_M))
    is_token = tokens < num_tokens
    r = tl.arange(0, BLOCK_R)
    is_rank = r < rank
    num_blocks = tl.cdiv(dim, BLOCK_K)
    blocks_per_split = tl.cdiv(num_blocks, SPLITS)
    first = split * blocks_per_split
    last = min(first + blocks_per_split, num_blocks)
    k = tl.arange(0, BLOCK_K)
    x_rows = x_ptr + tokens[:, None].to(tl.int64) * stride_x + k[None, :]
    a_rows = (
        lora_a_ptr
        + adapter.to(tl.int64) * stride_adapter
        + slice_index * stride_slice
        + r[:, None] * stride_rank
        + k[None, :]
    )
    sums = tl.zeros((BLOCK_M, BLOCK_R), tl.float32)
    for i in range(first, last):
        is_k = (i * BLOCK_K + k < dim)[None, :]
        x = tl.load(x_rows + i * BLOCK_K, mask=is_token[:, None] & is_k, other=0.0)
        a = tl.load(a_rows + i * BLOCK_K, mask=is_rank[:, None] & is_k, other=0.0)
        sums = tl.dot(x, a.T, sums, input_precision="ieee")
    offsets = (split * tl.num_programs(2) + slice_index).to(tl.int64) * num_tokens + tokens
    tl.store(
        shrunk_ptr + offsets[:, None] * max_rank + r[None, :],
        sums,
        mask=is_token[:, None] & (r < max_rank)[None, :],
    )


@triton.jit(do_not_specialize=["num_tokens"])
def _expand_kernel(
    shrunk_ptr,
    lora_b_ptr,
    ranks_ptr,
    sorted_tokens_ptr,
    adapter_of_block_ptr,
    out_ptr,
    num_tokens,
    max_rank,
    stride_adapter,
    stride_row,
    stride_out,
    SLICE_SIZES: tl.constexpr,
    SLICES: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_R: tl.constexpr,
    PDL: tl.constexpr,
):
    """out[t, n] += sum over r of B[adapter, n, r] * shrunk[t, r], which is the splits' sum.

    A tile of outputs lies in one slice. The fp32 sum over splits enters the matrix unit as two
    numbers of B's dtype, the rounded sum and what rounding left: 16 bits of it in bf16, not 8.
    """
    block = tl.program_id(0)
    tile = tl.program_id(1)
    if PDL:
        gdc_wait()
    adapter = tl.load(adapter_of_block_ptr + block)
    if adapter < 0:
        return
    slice_index = tile * 0
    first = tile * 0
    end = tile * 0
    start = 0
    tiles = 0
    for s in tl.static_range(SLICES):
        here = (SLICE_SIZES[s] + BLOCK_N - 1) // BLOCK_N
        is_here = (tile >= tiles) & (tile < tiles + here)
        slice_index = tl.where(is_here, s, slice_index)
        first = tl.where(is_here, start + (tile - tiles) * BLOCK_N, first)
        end = tl.where(is_here, start + SLICE_SIZES[s], end)
        start += SLICE_SIZES[s]
        tiles += here

    rank = tl.load(ranks_ptr + adapter)
    tokens = tl.load(sorted_tokens_ptr + block * BLOCK_M + tl.arange(0, BLOCK_M))
    is_token = tokens < num_tokens
    r = tl.arange(0, BLOCK_R)
    columns = first + tl.arange(0, BLOCK_N)
    is_column = columns < end
    b_offsets = columns[:, None] * stride_row + r[None, :]
    b = tl.load(
        lora_b_ptr + adapter.to(tl.int64) * stride_adapter + b_offsets,
        mask=is_column[:, None] & (r < rank)[None, :],
        other=0.0,
    )
    shrunk_mask = is_token[:, None] & (r < rank)[None, :]
    shrunk = tl.zeros((BLOCK_M, BLOCK_R), tl.float32)
    for split in tl.static_range(SPLITS):
        rows = (split * SLICES + slice_index).to(tl.int64) * num_tokens + tokens
        shrunk += tl.load(
            shrunk_ptr + rows[:, None] * max_rank + r[None, :], mask=shrunk_mask, other=0.0
        )
    rounded = shrunk.to(b.dtype)
    sums = tl.dot(rounded, b.T, input_precision="ieee")
    if b.dtype != tl.float32:
        left = (shrunk - rounded.to(tl.float32)).to(b.dtype)
        sums = tl.dot(left, b.T, sums, input_precision="ieee")
    out = out_ptr + tokens[:, None].to(tl.int64) * stride_out + columns[None, :]
    mask = is_token[:, None] & is_column[None, :]
    before = tl.load(out, mask=mask, other=0.0).to(tl.float32)
    tl.store(out, (before + sums).to(out_ptr.dtype.element_ty), mask=mask)


def add_lora(
    out: Tensor,
    x: Tensor,
    lora_a: Tensor,
    lora_b: Tensor,
    mapping: LoraMapping,
    ranks: Tensor,
    slice_sizes: tuple[int, ...],
    config: LoraConfig | None = None,
) -> Tensor:
    """See `shoal.kernels.lora`; `config` replaces the launch choice, for measurements."""
    if out.stride(1) != 1:
        raise ValueError("out is updated in place: its rows must be contiguous")
    x, lora_a, lora_b = with_dense_rows(x), with_dense_rows(lora_a), with_dense_rows(lora_b)
    num_tokens, dim = x.shape
    num_slices, max_rank = lora_a.shape[1:3]
    permutation = mapping.permutation
    max_blocks = permutation.expert_of_block.numel()
    if config is None:
        config = lora_config(
            max_blocks=max_blocks, num_slices=num_slices, max_rank=max_rank, dim=dim,
            gpu=gpu_of(x.device),
        )  # fmt: skip
    shrunk = torch.empty(
        config.num_splits, num_slices, num_tokens, max_rank, dtype=torch.float32, device=x.device
    )
    pdl = dependent_launch(x.device)
    block_r = max(triton.next_power_of_2(max_rank), 16)
    _shrink_kernel[(max_blocks, config.num_splits, num_slices)](
        x,
        lora_a,
        ranks,
        permutation.sorted_pairs,
        permutation.expert_of_block,
        shrunk,
        num_tokens,
        dim,
        max_rank,
        x.stride(0),
        lora_a.stride(0),
        lora_a.stride(1),
        lora_a.stride(2),
        SPLITS=config.num_splits,
        BLOCK_M=permutation.block_m,
        BLOCK_R=block_r,
        BLOCK_K=config.block_k,
        PDL=pdl,
        num_warps=config.shrink_warps,
        launch_pdl=pdl,
        num_stages=config.shrink_stages,
    )
    num_tiles = sum(triton.cdiv(size, config.block_n) for size in slice_sizes)
    _expand_kernel[(max_blocks, num_tiles)](
        shrunk,
        lora_b,
        ranks,
        permutation.sorted_pairs,
        permutation.expert_of_block,
        out,
        num_tokens,
        max_rank,
        lora_b.stride(0),
        lora_b.stride(1),
        out.stride(0),
        SLICE_SIZES=slice_sizes,
        SLICES=num_slices,
        SPLITS=config.num_splits,
        BLOCK_M=permutation.block_m,
        BLOCK_N=config.block_n,
        BLOCK_R=block_r,
        PDL=pdl,
        num_warps=config.expand_warps,
        launch_pdl=pdl,
        num_stages=1,
    )
    return out
