"""Matrix product of 16-bit activations and 4-bit weights with a scale for each group along dim."""

from __future__ import annotations

import torch
from torch import Tensor

from .dispatch import uses_triton
from .int4_weight import SYMMETRIC_ZERO, Int4Weight, unpack_int4


def w4a16_matmul(x: Tensor, weight: Int4Weight, *, bias: Tensor | None = None) -> Tensor:
    """x @ w^T + bias with w[n, k] = (code[n, k] - zero[g, n]) * scale[g, n], g = k // group_size.

    x: [num_tokens, dim] bf16 or fp16; weight: `Int4Weight` of [out_dim, dim]; bias: [out_dim].
    Sums are fp32; `code - zero` is an exact small integer in x's dtype, and a group's sum is
    multiplied by its scale in fp32. Returns [num_tokens, out_dim] of x's dtype.

    With 1024 tokens and more, the weight is first dequantized to memory of x's dtype (2 * out_dim *
    dim bytes while the product runs), and the library multiplies.

    A row's result depends on its own values and on the launch bucket of num_tokens only. The way
    of the bits is Marlin's (Frantar et al., 2024): an or makes a float of a nibble, no conversion.
    """
    if x.dtype not in (torch.bfloat16, torch.float16):
        raise ValueError(f"w4a16_matmul takes bf16 or fp16 activations, not {x.dtype}")
    if x.dim() != 2 or x.shape[1] != weight.dim:
        raise ValueError(
            f"w4a16_matmul takes x [num_tokens, {weight.dim}] for a weight of"
            f" [{weight.out_dim}, {weight.dim}], not {list(x.shape)}"
        )
    if bias is not None and bias.shape != (weight.out_dim,):
        raise ValueError(f"bias must be [{weight.out_dim}], not {list(bias.shape)}")
    if x.shape[0] and uses_triton(x):
        from .triton.w4a16_matmul import w4a16_matmul as w4a16_matmul_triton

        return w4a16_matmul_triton(x, weight, bias)
    return w4a16_matmul_torch(x, weight, bias=bias)


def w4a16_matmul_torch(x: Tensor, weight: Int4Weight, *, bias: Tensor | None = None) -> Tensor:
    """The meaning of `w4a16_matmul`."""
    out = x.float() @ dequantize_int4(weight).t()
    if bias is not None:
        out = out + bias.float()
    return out.to(x.dtype)


def dequantize_int4(weight: Int4Weight) -> Tensor:
    """The weight as fp32 [out_dim, dim]."""
    codes = unpack_int4(weight.packed, dim=weight.dim).float()
    if weight.zeros is None:
        codes -= SYMMETRIC_ZERO
    else:
        codes -= _by_element(weight.zeros, weight)
    return codes * _by_element(weight.scales, weight)


def _by_element(groups: Tensor, weight: Int4Weight) -> Tensor:
    """[num_groups, out_dim] to fp32 [out_dim, dim]: each group's value for each of its elements."""
    by_row = groups.float().t().repeat_interleave(weight.group_size, dim=1)
    return by_row[:, : weight.dim]
