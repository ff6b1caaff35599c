"""Symmetric 8-bit quantization with a scale for each row: a token, or a channel of a weight.

The scheme of SmoothQuant's per-token and per-channel variants (Xiao et al., 2023) and of the fp8
recipes that followed it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .dispatch import gpu_of, uses_triton

CODE_MAX = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}
"""The largest code of each 8-bit type."""


def has_codes(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether Triton's bodies know this 8-bit type on the GPU: fp8 from Ada and Hopper on (8.9)."""
    return dtype != torch.float8_e4m3fn or gpu_of(device).capability >= (8, 9)


def quantize_rows(x: Tensor, *, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Codes and scales with x = codes * scale, scale = max|row| / (largest code), in fp32.

    x: [..., dim] bf16, fp16 or fp32; dtype: torch.int8 (rounded half to even) or
    torch.float8_e4m3fn. Returns codes [..., dim] and scale [..., 1] fp32. A row of zeros has the
    scale 1.
    """
    if dtype not in CODE_MAX:
        raise ValueError(f"quantize_rows makes int8 or float8_e4m3fn, not {dtype}")
    if x.dtype not in (torch.bfloat16, torch.float16, torch.float32):
        raise ValueError(f"quantize_rows reads bf16, fp16 or fp32, not {x.dtype}")
    if x.dim() < 1:
        raise ValueError("quantize_rows needs a last dimension to find the scale of")
    if x.numel() and uses_triton(x) and has_codes(x.device, dtype):
        from .triton.quantize_rows import quantize_rows_triton

        return quantize_rows_triton(x, dtype)
    return quantize_rows_torch(x, dtype=dtype)


def quantize_rows_torch(x: Tensor, *, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The meaning of `quantize_rows`."""
    code_max = CODE_MAX[dtype]
    if not x.numel():
        return x.to(dtype), x.new_ones(*x.shape[:-1], 1, dtype=torch.float32)
    largest = x.float().abs().amax(-1, keepdim=True)
    # Divided by a tensor: a number would be divided by as a product with its rounded reciprocal.
    scale = torch.where(largest > 0, largest / torch.full_like(largest, code_max), 1.0)
    codes = (x.float() / scale).clamp(-code_max, code_max)
    if dtype == torch.int8:
        codes = codes.round()
    return codes.to(dtype), scale
