"""4-bit weights times 16-bit activations: codes become floats in the matrix unit's registers."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional
from triton.language.extra.cuda import gdc_wait

from ..dispatch import gpu_of
from ..int4_weight import BLOCK_ELEMENTS, BLOCK_WORDS, Int4Weight
from ..launch.tile_config import TileConfig
from ..launch.w4a16_matmul import MANY_TOKENS, w4a16_matmul_config
from .dequantize_int4 import dequantize_int4
from .int4 import TRITON_DTYPES, add_int4_product, is_plain, load_groups
from .quick_launch import dependent_launch
from .split_sums import add_splits, split_output
from .tile_loads import describe_rows, fits_tma, load_tile, with_dense_rows
from .tile_order import tile_of_program

_WORDS = tl.constexpr(BLOCK_WORDS)


@triton.jit(do_not_specialize=["num_tokens"])
def _w4a16_matmul_kernel(
    x,
    packed,
    scales_ptr,
    zeros_ptr,
    bias_ptr,
    out_ptr,
    num_tokens,
    out_dim,
    dim,
    num_groups,
    stride_x,
    stride_packed,
    FOLD: tl.constexpr,
    HAS_ZEROS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    EVEN_K: tl.constexpr,
    TMA: tl.constexpr,
    TMA_X: tl.constexpr,
    IS_SPLIT: tl.constexpr,
    PDL: tl.constexpr,
    GROUP_M: tl.constexpr,
    GROUPS: tl.constexpr,
    DTYPE: tl.constexpr,
    PLAIN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """out[m, n] = sum_g scale[g, n] * sum_{k in g} x[m, k] * (code[n, k] - zero[g, n]) + bias[n].

    GROUPS: groups in a block of 256, 2 or 4. Splits as in `_w8a8_matmul_kernel`.
    """
    tile_m, tile_n = tile_of_program(
        tl.program_id(0), num_tokens, out_dim, BLOCK_M, BLOCK_N, GROUP_M
    )
    split = tl.program_id(1)
    num_blocks = tl.cdiv(dim, 4 * _WORDS)
    blocks_per_split = tl.cdiv(num_blocks, tl.num_programs(1))
    first = split * blocks_per_split
    last = min(first + blocks_per_split, num_blocks)
    if PDL:
        gdc_wait()
    columns = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)

    rows = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    if TMA_X:
        x_rows = x
    else:
        # Rows behind the last token's read it again.
        safe_rows = tl.minimum(rows, num_tokens - 1)
        x_rows = x + safe_rows[:, None].to(tl.int64) * stride_x + tl.arange(0, _WORDS)[None, :]

    acc = tl.zeros((BLOCK_N, BLOCK_M), dtype=tl.float32)
    # Scales and zeros come one block ahead of their use: too few bytes for an asynchronous copy,
    # and a load that is waited for in every block would cost more than the block.
    scales = load_groups(scales_ptr, first, columns, num_groups, out_dim, GROUPS, BLOCK_N)
    zeros = scales
    if HAS_ZEROS:
        zeros = load_groups(zeros_ptr, first, columns, num_groups, out_dim, GROUPS, BLOCK_N)
    for block in range(first, last):
        words = load_tile(
            packed, tile_n * BLOCK_N, block * _WORDS, out_dim, num_blocks * _WORDS, stride_packed,
            TMA, True, BLOCK_N, _WORDS,
        )  # fmt: skip
        next_scales = load_groups(
            scales_ptr, block + 1, columns, num_groups, out_dim, GROUPS, BLOCK_N
        )
        if HAS_ZEROS:
            next_zeros = load_groups(
                zeros_ptr, block + 1, columns, num_groups, out_dim, GROUPS, BLOCK_N
            )
        acc = add_int4_product(
            words, scales, zeros, x_rows, tile_m * BLOCK_M, block * 4 * _WORDS, dim, acc,
            TMA_X, EVEN_K, FOLD, HAS_ZEROS, GROUPS, DTYPE, PLAIN, BLOCK_M, BLOCK_N,
        )  # fmt: skip
        scales = next_scales
        if HAS_ZEROS:
            zeros = next_zeros
    result = acc.T

    mask = (rows[:, None] < num_tokens) & (columns[None, :] < out_dim)
    if not IS_SPLIT:
        if HAS_BIAS:
            bias = tl.load(bias_ptr + columns, mask=columns < out_dim, other=0.0).to(tl.float32)
            result += bias[None, :]
    else:
        out_ptr += split.to(tl.int64) * num_tokens * out_dim
    offsets = rows[:, None].to(tl.int64) * out_dim + columns[None, :]
    tl.store(out_ptr + offsets, result.to(out_ptr.dtype.element_ty), mask=mask)


def w4a16_matmul(
    x: Tensor, weight: Int4Weight, bias: Tensor | None, config: TileConfig | None = None
) -> Tensor:
    """See `shoal.kernels.w4a16_matmul`; `config` replaces the launch choice, for measurements."""
    num_tokens, dim = x.shape
    out_dim = weight.out_dim
    x, packed = with_dense_rows(x), with_dense_rows(weight.packed)
    scales, zeros = weight.scales.contiguous(), weight.zeros
    if config is None and num_tokens >= MANY_TOKENS:
        return functional.linear(x, dequantize_int4(weight, x.dtype), bias)
    if config is None:
        config = w4a16_matmul_config(num_tokens, out_dim, dim, gpu_of(x.device))
    tma = config.tma and fits_tma(packed)
    tma_x = config.tma_x and fits_tma(x)
    pdl = dependent_launch(x.device)
    out = torch.empty(num_tokens, out_dim, dtype=x.dtype, device=x.device)
    partial = split_output(out, config.num_splits)
    num_tiles = triton.cdiv(num_tokens, config.block_m) * triton.cdiv(out_dim, config.block_n)
    _w4a16_matmul_kernel[(num_tiles, config.num_splits)](
        describe_rows(x, config.block_m, BLOCK_WORDS) if tma_x else x,
        describe_rows(packed, config.block_n, BLOCK_WORDS) if tma else packed,
        scales,
        scales if zeros is None else zeros.contiguous(),
        scales if bias is None else bias,
        partial,
        num_tokens,
        out_dim,
        dim,
        scales.shape[0],
        x.stride(0),
        packed.stride(0),
        FOLD=config.fold_scales,
        HAS_ZEROS=zeros is not None,
        HAS_BIAS=bias is not None,
        EVEN_K=dim % BLOCK_ELEMENTS == 0,
        TMA=tma,
        TMA_X=tma_x,
        IS_SPLIT=config.num_splits > 1,
        PDL=pdl,
        GROUP_M=config.group_m,
        GROUPS=BLOCK_ELEMENTS // weight.group_size,
        DTYPE=TRITON_DTYPES[x.dtype],
        PLAIN=is_plain(x.device),
        BLOCK_M=config.block_m,
        BLOCK_N=config.block_n,
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        launch_pdl=pdl,
    )
    if config.num_splits > 1:
        add_splits(partial, out, bias=bias)
    return out
