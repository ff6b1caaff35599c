"""Activations in fp8 with one scale a row, as a w8a8 matrix product takes them."""

from __future__ import annotations

import torch
from torch import Tensor

FP8 = torch.float8_e4m3fn
"""Four bits of exponent, three of mantissa, no infinity (Micikevicius et al., 2022)."""
FP8_MAX = 448.0
"""The largest value of `FP8`."""
SMALLEST_ROW_MAX = 1e-30
"""A row of zeros gets the scale of this maximum, so that no scale is 0 or has no reciprocal."""


def quantize_rows_torch(x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and scales with x = codes * scales, where scale = max |x| of the row / 448.

    x: [..., dim]; returns codes [..., dim] fp8 e4m3 and scales [..., 1] fp32.
    """
    wide = x.float()
    scales = wide.abs().amax(dim=-1, keepdim=True).clamp_min(SMALLEST_ROW_MAX) / FP8_MAX
    # torch turns what lies beyond the largest value into NaN; the hardware saturates.
    return (wide / scales).clamp(-FP8_MAX, FP8_MAX).to(FP8), scales
