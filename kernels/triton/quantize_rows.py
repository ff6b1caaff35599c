"""Rows to 8-bit codes: one program a row."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_wait

from ..launch.quantize_rows import quantize_rows_config
from .quick_launch import dependent_launch
from .rows import as_rows

# Adding and taking away 1.5 * 2^23 rounds an fp32 below 2^22 to the nearest integer, ties to even.
_ROUNDER = tl.constexpr(12582912.0)
_INT8_MAX = tl.constexpr(127.0)
_FP8_MAX = tl.constexpr(448.0)


@triton.jit
def _quantize_rows_kernel(
    x_ptr,
    codes_ptr,
    scale_ptr,
    dim,
    stride_x,
    TO_INT8: tl.constexpr,
    PDL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """scale = max|x| / code_max; codes = x / scale, rounded to nearest even.

    A row longer than BLOCK is read twice: for the maximum, then again, from the L2 cache.
    """
    if PDL:
        gdc_wait()
    row = tl.program_id(0).to(tl.int64)
    code_max: tl.constexpr = _INT8_MAX if TO_INT8 else _FP8_MAX
    columns = tl.arange(0, BLOCK)
    values = tl.load(x_ptr + row * stride_x + columns, mask=columns < dim, other=0.0)
    values = values.to(tl.float32)
    largest = tl.max(tl.abs(values), axis=0)
    for start in range(BLOCK, dim, BLOCK):
        is_there = start + columns < dim
        later = tl.load(x_ptr + row * stride_x + start + columns, mask=is_there, other=0.0)
        largest = tl.maximum(largest, tl.max(tl.abs(later.to(tl.float32)), axis=0))
    scale = tl.where(largest > 0, tl.math.div_rn(largest, code_max), 1.0)
    tl.store(scale_ptr + row, scale)
    _store_codes(codes_ptr + row * dim + columns, values, scale, columns < dim, code_max, TO_INT8)
    for start in range(BLOCK, dim, BLOCK):
        is_there = start + columns < dim
        later = tl.load(x_ptr + row * stride_x + start + columns, mask=is_there, other=0.0)
        _store_codes(
            codes_ptr + row * dim + start + columns, later.to(tl.float32), scale, is_there,
            code_max, TO_INT8,
        )  # fmt: skip


@triton.jit
def _store_codes(ptr, values, scale, mask, code_max: tl.constexpr, TO_INT8: tl.constexpr):
    codes = tl.math.div_rn(values, tl.zeros_like(values) + scale)
    codes = tl.minimum(tl.maximum(codes, -code_max), code_max)
    if TO_INT8:
        codes = (codes + _ROUNDER) - _ROUNDER
    tl.store(ptr, codes.to(ptr.dtype.element_ty), mask=mask)


def quantize_rows_triton(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """See `kernels.quantize_rows`: codes [..., dim] and scales [..., 1]."""
    rows = as_rows(x)
    num_rows, dim = rows.shape
    codes = torch.empty(num_rows, dim, dtype=dtype, device=x.device)
    scale = torch.empty(num_rows, 1, dtype=torch.float32, device=x.device)
    config = quantize_rows_config(dim)
    pdl = dependent_launch(x.device)
    _quantize_rows_kernel[(num_rows,)](
        rows,
        codes,
        scale,
        dim,
        rows.stride(0),
        TO_INT8=dtype == torch.int8,
        PDL=pdl,
        BLOCK=config.block,
        num_warps=config.num_warps,
        launch_pdl=pdl,
    )
    return codes.view(x.shape), scale.view(*x.shape[:-1], 1)
