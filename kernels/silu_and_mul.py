"""The gated activation of Llama's MLP (SwiGLU, Shazeer, 2020)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def silu_and_mul(gate_up: Tensor) -> Tensor:
    """silu(gate) * up for gate_up: [..., 2 * dim] holding gate, then up; returns [..., dim]."""
    gate, up = gate_up.chunk(2, dim=-1)
    return functional.silu(gate).mul_(up)
