"""Rows quantized to fp8 inside a kernel: see `kernels.quantize_rows`."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def row_codes(values, factor):
    """codes [ROWS, BLOCK] fp8 e4m3 and scales [ROWS] fp32 of values * factor.

    values: [ROWS, BLOCK] fp32; factor: [ROWS] fp32 > 0. The codes do not depend on the factor, so
    a norm's two sums over a row need not wait for each other.
    """
    largest = tl.max(tl.abs(values), axis=1)
    # Below this bound the reciprocal of a scale is infinite in fp32.
    bounded = tl.maximum(largest, 1e-30)
    # One division a row, not one an entry; the conversion saturates what rounding puts above 448.
    codes = (values * (448.0 / bounded)[:, None]).to(tl.float8e4nv)
    return codes, tl.where(largest > 0, bounded * factor / 448.0, 1.0)
