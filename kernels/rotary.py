"""Rotary position embedding (Su et al., 2021), in the half-split layout of Llama in HF form."""

from __future__ import annotations

import torch
from torch import Tensor


def rotary_embedding(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate each pair (x[i], x[i + dim/2]) by the angle of its position and frequency.

    query: [num_tokens, num_q_heads, head_dim]; key: [num_tokens, num_kv_heads, head_dim];
    cos, sin: [num_tokens, head_dim] fp32, gathered for the tokens' positions, with the sine of the
    first half negated, so that one multiply-add does the rotation:
    out = x * cos + swap_halves(x) * sin.
    """
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    return _rotate(query, cos, sin), _rotate(key, cos, sin)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    swapped = torch.roll(x, x.shape[-1] // 2, dims=-1)
    return (x * cos).addcmul_(swapped, sin).to(x.dtype)
