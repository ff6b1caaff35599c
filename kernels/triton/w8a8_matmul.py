"""8-bit matrix product: one body, for few tokens (weights stream by) and for many."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_wait

from ..dispatch import gpu_of
from ..launch.tile_config import TileConfig
from ..launch.w8a8_matmul import w8a8_matmul_config
from .quick_launch import dependent_launch
from .split_sums import add_splits, split_output
from .tile_dot import add_product, empty_sums
from .tile_loads import describe_rows, fits_tma, load_tile, with_dense_rows
from .tile_order import tile_of_program


@triton.jit(do_not_specialize=["num_tokens"])
def _w8a8_matmul_kernel(
    x,
    weight,
    x_scale_ptr,
    weight_scale_ptr,
    bias_ptr,
    out_ptr,
    num_tokens,
    out_dim,
    dim,
    stride_x,
    stride_weight,
    HAS_BIAS: tl.constexpr,
    IS_INT: tl.constexpr,
    EVEN_K: tl.constexpr,
    TMA: tl.constexpr,
    TMA_X: tl.constexpr,
    SWAP: tl.constexpr,
    IS_SPLIT: tl.constexpr,
    PDL: tl.constexpr,
    GROUP_M: tl.constexpr,
    IMPRECISE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """out[m, n] = sum_k x[m, k] * weight[n, k] * x_scale[m] * weight_scale[n] + bias[n].

    When IS_SPLIT, program (tile, s) sums the s-th run of blocks
    along k and writes sums without scale or bias to out[s]; `add_splits` adds them.
    """
    tile_m, tile_n = tile_of_program(
        tl.program_id(0), num_tokens, out_dim, BLOCK_M, BLOCK_N, GROUP_M
    )
    split = tl.program_id(1)
    num_blocks = tl.cdiv(dim, BLOCK_K)
    blocks_per_split = tl.cdiv(num_blocks, tl.num_programs(1))
    first = split * blocks_per_split
    last = min(first + blocks_per_split, num_blocks)
    if PDL:
        gdc_wait()

    sum_dtype: tl.constexpr = tl.int32 if IS_INT else tl.float32
    acc = empty_sums(SWAP, BLOCK_M, BLOCK_N, sum_dtype)
    for block in range(first, last):
        x_tile = load_tile(
            x,
            tile_m * BLOCK_M,
            block * BLOCK_K,
            num_tokens,
            dim,
            stride_x,
            TMA_X,
            EVEN_K,
            BLOCK_M,
            BLOCK_K,
        )
        weight_tile = load_tile(
            weight,
            tile_n * BLOCK_N,
            block * BLOCK_K,
            out_dim,
            dim,
            stride_weight,
            TMA,
            EVEN_K,
            BLOCK_N,
            BLOCK_K,
        )
        acc = add_product(x_tile, weight_tile, acc, SWAP, sum_dtype, IMPRECISE)
    if SWAP:
        acc = acc.T

    rows = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    mask = (rows[:, None] < num_tokens) & (columns[None, :] < out_dim)
    if not IS_SPLIT:
        x_scale = tl.load(x_scale_ptr + rows, mask=rows < num_tokens, other=0.0)
        weight_scale = tl.load(weight_scale_ptr + columns, mask=columns < out_dim, other=0.0)
        result = acc.to(tl.float32) * x_scale[:, None] * weight_scale[None, :]
        if HAS_BIAS:
            bias = tl.load(bias_ptr + columns, mask=columns < out_dim, other=0.0).to(tl.float32)
            result += bias[None, :]
    else:
        result = acc
        out_ptr += split.to(tl.int64) * num_tokens * out_dim
    offsets = rows[:, None].to(tl.int64) * out_dim + columns[None, :]
    tl.store(out_ptr + offsets, result.to(out_ptr.dtype.element_ty), mask=mask)


def w8a8_matmul(
    x: Tensor,
    weight: Tensor,
    x_scale: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    out_dtype: torch.dtype,
    config: TileConfig | None = None,
) -> Tensor:
    """See `shoal.kernels.w8a8_matmul`; `config` replaces the launch choice, for measurements."""
    num_tokens, dim = x.shape
    out_dim = weight.shape[0]
    x, weight = with_dense_rows(x), with_dense_rows(weight)
    if config is None:
        config = w8a8_matmul_config(
            num_tokens, out_dim, dim, gpu_of(x.device), is_fp32_out=out_dtype == torch.float32
        )
    tma = config.tma and fits_tma(weight)
    tma_x = config.tma_x and fits_tma(x)
    pdl = dependent_launch(x.device)
    out = torch.empty(num_tokens, out_dim, dtype=out_dtype, device=x.device)
    is_int = x.dtype == torch.int8
    partial = split_output(
        out, config.num_splits, sum_dtype=torch.int32 if is_int else torch.float32
    )
    num_tiles = triton.cdiv(num_tokens, config.block_m) * triton.cdiv(out_dim, config.block_n)
    _w8a8_matmul_kernel[(num_tiles, config.num_splits)](
        describe_rows(x, config.block_m, config.block_k) if tma_x else x,
        describe_rows(weight, config.block_n, config.block_k) if tma else weight,
        x_scale,
        weight_scale,
        weight_scale if bias is None else bias,
        partial,
        num_tokens,
        out_dim,
        dim,
        x.stride(0),
        weight.stride(0),
        HAS_BIAS=bias is not None,
        IS_INT=is_int,
        EVEN_K=dim % config.block_k == 0,
        TMA=tma,
        TMA_X=tma_x,
        SWAP=config.swap,
        IS_SPLIT=config.num_splits > 1,
        PDL=pdl,
        GROUP_M=config.group_m,
        IMPRECISE=config.imprecise,
        BLOCK_M=config.block_m,
        BLOCK_N=config.block_n,
        BLOCK_K=config.block_k,
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        launch_pdl=pdl,
    )
    if config.num_splits > 1:
        add_splits(partial, out, scales=(x_scale, weight_scale), bias=bias)
    return out
