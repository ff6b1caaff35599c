"""Root mean square layer normalization (Zhang and Sennrich, 2019), alone and after a residual.

Each also with its result quantized to fp8, one scale a row, for the w8a8 product that follows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .dispatch import uses_triton
from .quantize_rows import quantize_rows_torch


def rms_norm(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, computed in fp32.

    x: [..., dim]; weight: [dim]; returns x's shape and dtype.
    """
    _check(x, weight)
    if uses_triton(x):
        from .triton.rms_norm import rms_norm_triton

        return rms_norm_triton(x, weight, eps)
    return rms_norm_torch(x, weight, eps=eps)


def fused_add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> tuple[Tensor, Tensor]:
    """Add `x` to the residual stream, then normalize it.

    x and residual: [..., dim] of one dtype, residual contiguous on a GPU; weight: [dim]. Returns
    (rms_norm(residual + x), residual + x); `residual` is updated in place. The sum is rounded to
    its dtype before it is normalized: later layers see the same value.
    """
    _check(x, weight, residual)
    if uses_triton(x):
        from .triton.rms_norm import fused_add_rms_norm_triton

        return fused_add_rms_norm_triton(x, residual, weight, eps)
    return fused_add_rms_norm_torch(x, residual, weight, eps=eps)


def rms_norm_fp8(x: Tensor, weight: Tensor, *, eps: float) -> tuple[Tensor, Tensor]:
    """`rms_norm`, quantized by rows: codes [..., dim] fp8 e4m3 and scales [..., 1] fp32.

    x: [..., dim]; weight: [dim]; the norm is about codes * scales. A row of zeros has the scale 1.
    """
    _check(x, weight)
    if uses_triton(x):
        from .triton.rms_norm import rms_norm_fp8_triton

        return rms_norm_fp8_triton(x, weight, eps)
    return rms_norm_fp8_torch(x, weight, eps=eps)


def fused_add_rms_norm_fp8(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`fused_add_rms_norm`, quantized by rows.

    x, residual and weight as there. Returns codes [..., dim] fp8 e4m3, scales [..., 1] fp32, and
    `residual`, updated in place.
    """
    _check(x, weight, residual)
    if uses_triton(x):
        from .triton.rms_norm import fused_add_rms_norm_fp8_triton

        return fused_add_rms_norm_fp8_triton(x, residual, weight, eps)
    return fused_add_rms_norm_fp8_torch(x, residual, weight, eps=eps)


def rms_norm_torch(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    """The meaning of `rms_norm`."""
    normed = functional.rms_norm(x.float(), weight.shape, eps=eps).to(x.dtype)
    return (normed * weight).to(x.dtype)


def fused_add_rms_norm_torch(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> tuple[Tensor, Tensor]:
    """The meaning of `fused_add_rms_norm`."""
    residual += x
    return rms_norm_torch(residual, weight, eps=eps), residual


def rms_norm_fp8_torch(x: Tensor, weight: Tensor, *, eps: float) -> tuple[Tensor, Tensor]:
    """The meaning of `rms_norm_fp8`."""
    return quantize_rows_torch(rms_norm_torch(x, weight, eps=eps), dtype=torch.float8_e4m3fn)


def fused_add_rms_norm_fp8_torch(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The meaning of `fused_add_rms_norm_fp8`."""
    normed, residual = fused_add_rms_norm_torch(x, residual, weight, eps=eps)
    codes, scales = quantize_rows_torch(normed, dtype=torch.float8_e4m3fn)
    return codes, scales, residual


def _check(x: Tensor, weight: Tensor, residual: Tensor | None = None) -> None:
    if x.dim() == 0 or weight.shape != x.shape[-1:]:
        raise ValueError(
            f"rms_norm: weight has shape {tuple(weight.shape)}, but x of shape {tuple(x.shape)}"
            " is normalized over its last dimension; pass one weight for each of its entries"
        )
    if residual is not None and (residual.shape, residual.dtype) != (x.shape, x.dtype):
        raise ValueError(
            f"fused_add_rms_norm: residual is {residual.dtype} {tuple(residual.shape)} and x"
            f" {x.dtype} {tuple(x.shape)}; they must agree, as the sum replaces the residual"
        )
