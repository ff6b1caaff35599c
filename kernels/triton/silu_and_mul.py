"""The gated activation of rows, alone and quantized to fp8 in the same pass."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..launch.silu_and_mul import silu_and_mul_fp8_launch, silu_and_mul_launch
from .fp8_codes import row_codes
from .rows import as_rows


def silu_and_mul_triton(gate_up: Tensor) -> Tensor:
    rows = as_rows(gate_up)
    dim = gate_up.shape[-1] // 2
    shape = (*gate_up.shape[:-1], dim)
    out = torch.empty(shape, dtype=gate_up.dtype, device=gate_up.device)
    if out.numel():
        launch = silu_and_mul_launch(rows.shape[0], dim)
        grid = (rows.shape[0], triton.cdiv(dim, launch.block))
        _silu_and_mul_kernel[grid](rows, out, None, rows.stride(0), dim, **launch.constants)
    return out


def silu_and_mul_fp8_triton(gate_up: Tensor) -> tuple[Tensor, Tensor]:
    rows = as_rows(gate_up)
    dim = gate_up.shape[-1] // 2
    lead = gate_up.shape[:-1]
    codes = torch.empty((*lead, dim), dtype=torch.float8_e4m3fn, device=gate_up.device)
    scales = torch.empty((*lead, 1), dtype=torch.float32, device=gate_up.device)
    if codes.numel():
        launch = silu_and_mul_fp8_launch(rows.shape[0], dim)
        grid = (rows.shape[0], 1)
        _silu_and_mul_kernel[grid](rows, codes, scales, rows.stride(0), dim, **launch.constants)
    return codes, scales


@triton.jit
def _silu_and_mul_kernel(
    gate_up_ptr,  # [num_rows, 2 * dim], row stride stride_row
    out_ptr,  # [num_rows, dim] contiguous
    scales_ptr,  # [num_rows] fp32: out is fp8, and BLOCK holds a row; or None
    stride_row,
    dim,
    BLOCK: tl.constexpr,
):
    """out = gate / (1 + exp(-gate)) * up."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = columns < dim
    gate_ptrs = gate_up_ptr + row * stride_row + columns
    gate = tl.load(gate_ptrs, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(gate_ptrs + dim, mask=mask, other=0.0).to(tl.float32)
    values = gate / (1.0 + tl.exp(-gate)) * up
    if scales_ptr is not None:
        codes, scale = row_codes(values[None, :])
        tl.store(out_ptr + row * dim + columns[None, :], codes, mask=mask[None, :])
        tl.store(scales_ptr + row + tl.arange(0, 1), scale)
    else:
        tl.store(out_ptr + row * dim + columns, values.to(out_ptr.dtype.element_ty), mask=mask)
