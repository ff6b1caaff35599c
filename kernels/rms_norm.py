"""Root mean square layer normalization (Zhang and Sennrich, 2019), alone and after a residual."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def rms_norm(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, computed in fp32.

    x: [..., dim]; weight: [dim]; returns x's shape and dtype.
    """
    return functional.rms_norm(x.float(), weight.shape, eps=eps).to(x.dtype) * weight


def fused_add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, *, eps: float
) -> tuple[Tensor, Tensor]:
    """Add `x` to the residual stream, then normalize it.

    Returns (rms_norm(residual + x), residual + x); `residual` is updated in place.
    """
    residual += x
    return rms_norm(residual, weight, eps=eps), residual
