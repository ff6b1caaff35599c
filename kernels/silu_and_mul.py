"""The gated activation of Llama's MLP (SwiGLU, Shazeer, 2020), alone and quantized to fp8."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .dispatch import uses_triton
from .quantize_rows import quantize_rows_torch


def silu_and_mul(gate_up: Tensor) -> Tensor:
    """silu(gate) * up for gate_up: [..., 2 * dim] holding gate, then up; returns [..., dim]."""
    _check(gate_up)
    if uses_triton(gate_up):
        from .triton.silu_and_mul import silu_and_mul_triton

        return silu_and_mul_triton(gate_up)
    return silu_and_mul_torch(gate_up)


def silu_and_mul_fp8(gate_up: Tensor) -> tuple[Tensor, Tensor]:
    """`silu_and_mul`, quantized by rows: codes [..., dim] fp8 e4m3 and scales [..., 1] fp32."""
    _check(gate_up)
    if uses_triton(gate_up):
        from .triton.silu_and_mul import silu_and_mul_fp8_triton

        return silu_and_mul_fp8_triton(gate_up)
    return silu_and_mul_fp8_torch(gate_up)


def silu_and_mul_torch(gate_up: Tensor) -> Tensor:
    """The meaning of `silu_and_mul`."""
    gate, up = gate_up.chunk(2, dim=-1)
    return functional.silu(gate).mul_(up)


def silu_and_mul_fp8_torch(gate_up: Tensor) -> tuple[Tensor, Tensor]:
    """The meaning of `silu_and_mul_fp8`."""
    return quantize_rows_torch(silu_and_mul_torch(gate_up), dtype=torch.float8_e4m3fn)


def _check(gate_up: Tensor) -> None:
    if gate_up.dim() == 0 or gate_up.shape[-1] % 2:
        raise ValueError(
            f"silu_and_mul: the last dimension of shape {tuple(gate_up.shape)} holds gate and up"
            " one after the other, so it must be even"
        )
