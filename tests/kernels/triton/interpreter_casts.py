"""Triton's interpreter, with conversions to and from narrow floats that round as a GPU does.

Its own cut fp32 to bf16 instead of rounding, and lose the carry into the exponent on the way to
fp8. A test of a kernel through them tests those, so torch's are put in their place: to the
nearest, ties to even, and saturating for fp8.
"""

from __future__ import annotations

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter

TORCH = {
    tl.float16: torch.float16,
    tl.bfloat16: torch.bfloat16,
    tl.float32: torch.float32,
    tl.float64: torch.float64,
    tl.float8e4nv: torch.float8_e4m3fn,
    tl.float8e5: torch.float8_e5m2,
}
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

_convert_by_interpreter = interpreter._convert_float


def _convert(values, source, target, rounding_mode):
    to_nearest = rounding_mode in (None, interpreter._ir.ROUNDING_MODE.RTNE)
    if not to_nearest or source not in TORCH or target not in TORCH:
        return _convert_by_interpreter(values, source, target, rounding_mode)
    bits = torch.from_numpy(np.ascontiguousarray(values).reshape(-1).view(np.uint8).copy())
    floats = bits.view(TORCH[source])
    if target == tl.float8e4nv:
        floats = floats.float().clamp(-448.0, 448.0)
    out = floats.to(TORCH[target])
    width = out.element_size()
    unsigned = np.dtype(f"uint{8 * width}")
    return out.view(INTEGERS[width]).numpy().view(unsigned).reshape(np.shape(values))


def install() -> None:
    """Have every kernel that is interpreted from now on convert as a GPU does."""
    interpreter._convert_float = _convert
