"""How K and V are written as codes of a narrower type: value = code * scale.

A scale belongs to a KV head for good (static, from a calibration), or to one token and head
(dynamic, stored beside the cache and computed as the token is written).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .quantize_rows import CODE_MAX

SMALLEST_MAX = 1e-30
"""Zeros get the scale of this maximum, so that no scale is 0 or has no reciprocal."""


def is_quantized(dtype: torch.dtype) -> bool:
    return dtype in CODE_MAX


def scales_are_per_token(scale: Tensor | None) -> bool:
    """Whether scales are [num_blocks, block_size, num_kv_heads] and not [num_kv_heads] or none."""
    return scale is not None and scale.dim() == 3


def dynamic_scales_torch(values: Tensor, dtype: torch.dtype) -> Tensor:
    """max |value| / largest code over the last dimension, which is dropped; fp32."""
    return values.float().abs().amax(dim=-1).clamp_min(SMALLEST_MAX) / CODE_MAX[dtype]


def encode_torch(values: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Codes of `dtype`: rounded to the nearest (ties to even), saturated at the largest.

    values: [..., head_dim]; scale: broadcast over all but head_dim, or None for 1. A dtype that is
    not quantized is converted.
    """
    if scale is not None:
        values = values.float() / scale[..., None]
    if dtype not in CODE_MAX:
        return values.to(dtype)
    codes = values.float().clamp(-CODE_MAX[dtype], CODE_MAX[dtype])
    return (codes.round() if dtype == torch.int8 else codes).to(dtype)


def decode_torch(codes: Tensor, scale: Tensor | None) -> Tensor:
    """The values, in fp32; scale as for `encode_torch`."""
    values = codes.float()
    return values if scale is None else values * scale[..., None]
