"""4-bit weights to 16-bit floats in memory, for products with many tokens."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_wait

from ..int4_weight import BLOCK_ELEMENTS, BLOCK_WORDS, SYMMETRIC_ZERO, Int4Weight
from .int4 import TRITON_DTYPES, column_of_groups, is_plain, load_groups, unpack_nibbles, zero_bias
from .quick_launch import dependent_launch
from .tile_loads import with_dense_rows

_ROWS = 32
_WORDS = tl.constexpr(BLOCK_WORDS)
_ZERO = tl.constexpr(SYMMETRIC_ZERO)


@triton.jit
def _dequantize_kernel(
    packed_ptr,
    scales_ptr,
    zeros_ptr,
    out_ptr,
    out_dim,
    dim,
    num_groups,
    stride_packed,
    HAS_ZEROS: tl.constexpr,
    GROUPS: tl.constexpr,
    DTYPE: tl.constexpr,
    PLAIN: tl.constexpr,
    ROWS: tl.constexpr,
    PDL: tl.constexpr,
):
    """out[n, k] = (code[n, k] - zero[g, n]) * scale[g, n]: ROWS rows, a block of 256 entries."""
    if PDL:
        gdc_wait()
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    block = tl.program_id(1)
    columns = tl.arange(0, _WORDS)
    is_row = (rows < out_dim)[:, None]
    words_ptr = packed_ptr + rows[:, None].to(tl.int64) * stride_packed + block * _WORDS
    words = tl.load(words_ptr + columns[None, :], mask=is_row, other=0)
    scales = load_groups(scales_ptr, block, rows, num_groups, out_dim, GROUPS, ROWS)
    zeros = scales
    if HAS_ZEROS:
        zeros = load_groups(zeros_ptr, block, rows, num_groups, out_dim, GROUPS, ROWS)
    for nibble in tl.static_range(4):
        scale = column_of_groups(scales, nibble * GROUPS // 4, GROUPS, ROWS)[:, None].to(DTYPE)
        if HAS_ZEROS:
            codes = column_of_groups(zeros, nibble * GROUPS // 4, GROUPS, ROWS)
            zero = zero_bias(codes, DTYPE)[:, None]
        else:
            zero = zero_bias(tl.full((ROWS, 1), _ZERO, tl.int32), DTYPE)
        weight = unpack_nibbles(words, zero, scale, 4 * nibble, True, DTYPE, PLAIN)
        k = (block * 4 + nibble) * _WORDS + columns[None, :]
        tl.store(out_ptr + rows[:, None].to(tl.int64) * dim + k, weight, mask=is_row & (k < dim))


def dequantize_int4(weight: Int4Weight, dtype: torch.dtype) -> Tensor:
    """[out_dim, dim] of dtype: bf16 or fp16."""
    packed = with_dense_rows(weight.packed)
    out = torch.empty(weight.out_dim, weight.dim, dtype=dtype, device=packed.device)
    pdl = dependent_launch(packed.device)
    num_blocks = triton.cdiv(weight.dim, BLOCK_ELEMENTS)
    _dequantize_kernel[(triton.cdiv(weight.out_dim, _ROWS), num_blocks)](
        packed,
        weight.scales.contiguous(),
        weight.scales if weight.zeros is None else weight.zeros.contiguous(),
        out,
        weight.out_dim,
        weight.dim,
        weight.scales.shape[0],
        packed.stride(0),
        HAS_ZEROS=weight.zeros is not None,
        GROUPS=BLOCK_ELEMENTS // weight.group_size,
        DTYPE=TRITON_DTYPES[dtype],
        PLAIN=is_plain(packed.device),
        ROWS=_ROWS,
        PDL=pdl,
        num_warps=4,
        launch_pdl=pdl,
    )
    return out
