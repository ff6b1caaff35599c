"""The gated activation of rows, alone and quantized to fp8 in the same pass."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_wait

from ..launch.silu_and_mul import silu_and_mul_config
from .quick_launch import QuickLaunch, dependent_launch
from .rows import as_rows, row_stride


def silu_and_mul_triton(gate_up: Tensor) -> Tensor:
    rows, dim = as_rows(gate_up), gate_up.shape[-1] // 2
    out = torch.empty((*gate_up.shape[:-1], dim), dtype=gate_up.dtype, device=gate_up.device)
    if out.numel():
        config, pdl = silu_and_mul_config(dim, fp8=False), dependent_launch(gate_up.device)
        _quick_silu_and_mul(
            (rows.shape[0], -(-dim // config.block)),
            rows,
            out,
            STRIDE_ROW=row_stride(rows),
            DIM=dim,
            BLOCK=config.block,
            PDL=pdl,
            num_warps=config.num_warps,
            launch_pdl=pdl,
        )
    return out


def silu_and_mul_fp8_triton(gate_up: Tensor) -> tuple[Tensor, Tensor]:
    rows, dim = as_rows(gate_up), gate_up.shape[-1] // 2
    lead, device = gate_up.shape[:-1], gate_up.device
    codes = torch.empty((*lead, dim), dtype=torch.float8_e4m3fn, device=device)
    scales = torch.empty((*lead, 1), dtype=torch.float32, device=device)
    if codes.numel():
        config, pdl = silu_and_mul_config(dim, fp8=True), dependent_launch(device)
        _quick_silu_and_mul_fp8(
            (rows.shape[0],),
            rows,
            codes,
            scales,
            STRIDE_ROW=row_stride(rows),
            DIM=dim,
            BLOCK=config.block,
            CHUNKS=config.chunks,
            PDL=pdl,
            num_warps=config.num_warps,
            launch_pdl=pdl,
        )
    return codes, scales


@triton.jit
def _silu_and_mul_kernel(
    gate_up_ptr,  # [num_rows, 2 * DIM], row stride STRIDE_ROW
    out_ptr,  # [num_rows, DIM] contiguous
    STRIDE_ROW: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    PDL: tl.constexpr,
):
    """out = gate / (1 + exp(-gate)) * up."""
    if PDL:
        gdc_wait()
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    values = _activated(gate_up_ptr + row * STRIDE_ROW, columns, DIM)
    out_ptrs = out_ptr + row * DIM + columns
    tl.store(out_ptrs, values.to(out_ptr.dtype.element_ty), mask=columns < DIM)


@triton.jit
def _silu_and_mul_fp8_kernel(
    gate_up_ptr,  # [num_rows, 2 * DIM], row stride STRIDE_ROW
    codes_ptr,  # [num_rows, DIM] contiguous, fp8 e4m3
    scales_ptr,  # [num_rows] fp32
    STRIDE_ROW: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNKS: tl.constexpr,
    PDL: tl.constexpr,
):
    """scale = max |out| / 448 of the row's out = gate / (1 + exp(-gate)) * up; codes = out / scale.

    The row is kept in registers as CHUNKS tiles: a power of two of them would leave threads idle.
    """
    if PDL:
        gdc_wait()
    row = tl.program_id(0).to(tl.int64)
    kept = ()
    largest = tl.zeros((BLOCK,), tl.float32)
    for chunk in tl.static_range(CHUNKS):
        columns = chunk * BLOCK + tl.arange(0, BLOCK)
        values = _activated(gate_up_ptr + row * STRIDE_ROW, columns, DIM)
        largest = tl.maximum(largest, tl.abs(values))
        kept += (values,)  # type: ignore[assignment]
    top = tl.max(largest, axis=0)
    # Below this bound the reciprocal of a scale is infinite in fp32.
    bounded = tl.maximum(top, 1e-30)
    inverse = 448.0 / bounded
    tl.store(scales_ptr + row, tl.where(top > 0, bounded / 448.0, 1.0))
    for chunk in tl.static_range(CHUNKS):
        columns = chunk * BLOCK + tl.arange(0, BLOCK)
        codes = (kept[chunk] * inverse).to(tl.float8e4nv)
        tl.store(codes_ptr + row * DIM + columns, codes, mask=columns < DIM)


@triton.jit
def _activated(row_ptr, columns, DIM: tl.constexpr):
    mask = columns < DIM
    gate = tl.load(row_ptr + columns, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(row_ptr + DIM + columns, mask=mask, other=0.0).to(tl.float32)
    return gate / (1.0 + tl.exp(-gate)) * up


_quick_silu_and_mul = QuickLaunch(_silu_and_mul_kernel)
_quick_silu_and_mul_fp8 = QuickLaunch(_silu_and_mul_fp8_kernel)
