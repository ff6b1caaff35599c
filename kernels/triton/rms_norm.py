"""RMS norm of rows, with the residual added before and the fp8 quantization after, in one pass."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_wait

from ..launch.rms_norm import rms_norm_config
from .fp8_codes import row_codes
from .quick_launch import QuickLaunch, dependent_launch
from .rows import as_rows, as_rows_in_place, empty_contiguous, row_stride


def rms_norm_triton(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    out = empty_contiguous(x)
    _launch(as_rows(x), None, weight, out, None, eps)
    return out


def fused_add_rms_norm_triton(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    out = empty_contiguous(x)
    _launch(as_rows(x), as_rows_in_place(residual, "residual"), weight, out, None, eps)
    return out, residual


def rms_norm_fp8_triton(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    codes, scales = _empty_codes(x)
    _launch(as_rows(x), None, weight, codes, scales, eps)
    return codes, scales


def fused_add_rms_norm_fp8_triton(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    codes, scales = _empty_codes(x)
    _launch(as_rows(x), as_rows_in_place(residual, "residual"), weight, codes, scales, eps)
    return codes, scales, residual


def _empty_codes(x: Tensor) -> tuple[Tensor, Tensor]:
    codes = torch.empty(x.shape, dtype=torch.float8_e4m3fn, device=x.device)
    return codes, torch.empty((*x.shape[:-1], 1), dtype=torch.float32, device=x.device)


def _launch(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    out: Tensor,
    scales: Tensor | None,
    eps: float,
) -> None:
    num_rows, dim = x.shape
    if not x.numel():
        return
    config = rms_norm_config(dim, adds=residual is not None, fp8=scales is not None)
    pdl = dependent_launch(x.device)
    _quick_rms_norm(
        (-(-num_rows // config.rows),),
        x,
        residual,
        weight,
        out,
        scales,
        num_rows,
        eps,
        STRIDE_X=row_stride(x),
        DIM=dim,
        ROWS=config.rows,
        BLOCK=config.block,
        PDL=pdl,
        num_warps=config.num_warps,
        launch_pdl=pdl,
    )


@triton.jit(do_not_specialize=["num_rows"])
def _rms_norm_kernel(
    x_ptr,  # [num_rows, DIM], row stride STRIDE_X
    residual_ptr,  # [num_rows, DIM] contiguous, updated; or None
    weight_ptr,  # [DIM]
    out_ptr,  # [num_rows, DIM] contiguous
    scales_ptr,  # [num_rows] fp32: out is fp8; or None
    num_rows,
    eps,
    STRIDE_X: tl.constexpr,
    DIM: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    PDL: tl.constexpr,
):
    """residual = x + residual; out = residual * rsqrt(mean(residual^2) + eps) * weight."""
    if PDL:
        gdc_wait()
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, BLOCK)
    row_mask = rows < num_rows
    column_mask = columns < DIM
    mask = row_mask[:, None] & column_mask[None, :]
    places = rows[:, None] * DIM + columns[None, :]

    values = tl.load(x_ptr + rows[:, None] * STRIDE_X + columns[None, :], mask=mask, other=0.0)
    values = values.to(tl.float32)
    if residual_ptr is not None:
        before = tl.load(residual_ptr + places, mask=mask, other=0.0)
        after = (values + before.to(tl.float32)).to(residual_ptr.dtype.element_ty)
        tl.store(residual_ptr + places, after, mask=mask)
        # What is normalized is the sum as later layers will read it.
        values = after.to(tl.float32)
    weight = tl.load(weight_ptr + columns, mask=column_mask, other=0.0).to(tl.float32)
    inverse = tl.rsqrt(tl.sum(values * values, axis=1) / DIM + eps)
    weighted = values * weight[None, :]

    if scales_ptr is not None:
        codes, scales = row_codes(weighted, inverse)
        tl.store(out_ptr + places, codes, mask=mask)
        tl.store(scales_ptr + rows, scales, mask=row_mask)
    else:
        normed = (weighted * inverse[:, None]).to(out_ptr.dtype.element_ty)
        tl.store(out_ptr + places, normed, mask=mask)


_quick_rms_norm = QuickLaunch(_rms_norm_kernel)
