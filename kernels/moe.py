"""The MLPs of a mixture of experts (Shazeer et al., 2017; Mixtral, Jiang et al., 2024)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .dispatch import uses_triton
from .quantize_rows import has_codes, quantize_rows_torch
from .w8a8_matmul import w8a8_matmul_torch


def moe_mlp(
    x: Tensor,
    gate_up: Tensor,
    down: Tensor,
    *,
    topk_weights: Tensor,
    topk_ids: Tensor,
    gate_up_scale: Tensor | None = None,
    down_scale: Tensor | None = None,
) -> Tensor:
    """Sum over a token's experts e of weight_e * down_e @ (silu(gate_e @ x) * (up_e @ x)).

    x: [num_tokens, dim] bf16 or fp16; gate_up: [num_experts, 2 * inner, dim] (gate rows, then up
    rows); down: [num_experts, dim, inner]; topk_weights: [num_tokens, top_k] fp32; topk_ids:
    [num_tokens, top_k] int32 of `topk_softmax`. An id outside 0 to num_experts - 1 (-1: padding)
    adds nothing. Returns [num_tokens, dim] of x's dtype.

    Weights are of x's dtype, or int8 or float8_e4m3fn with one fp32 scale a row: gate_up_scale
    [num_experts, 2 * inner] and down_scale [num_experts, dim]; then x, and the activation between
    the two products, are quantized row by row like `quantize_rows` does.

    Nothing waits for the host: tokens are sorted by expert on the device, and grids are the most
    that num_tokens may need. A token's result does not depend on which others share its experts;
    its order of summation changes only with the launch bucket of num_tokens.
    """
    _check(x, gate_up, down, topk_weights, topk_ids, gate_up_scale, down_scale)
    if x.shape[0] and uses_triton(x) and has_codes(x.device, gate_up.dtype):
        from .triton.moe import moe_mlp as moe_mlp_triton

        return moe_mlp_triton(x, gate_up, down, topk_weights, topk_ids, gate_up_scale, down_scale)
    return moe_mlp_torch(
        x,
        gate_up,
        down,
        topk_weights=topk_weights,
        topk_ids=topk_ids,
        gate_up_scale=gate_up_scale,
        down_scale=down_scale,
    )


def moe_mlp_torch(
    x: Tensor,
    gate_up: Tensor,
    down: Tensor,
    *,
    topk_weights: Tensor,
    topk_ids: Tensor,
    gate_up_scale: Tensor | None = None,
    down_scale: Tensor | None = None,
) -> Tensor:
    """The meaning of `moe_mlp`, one expert after the other."""
    out = x.new_zeros(x.shape, dtype=torch.float32)
    for expert in range(gate_up.shape[0]):
        tokens, slots = (topk_ids == expert).nonzero(as_tuple=True)
        if not len(tokens):
            continue
        hidden = _linear(x[tokens], gate_up[expert], gate_up_scale, expert)
        gate, up = hidden.chunk(2, dim=-1)
        activated = functional.silu(gate.float()) * up.float()
        partial = _linear(activated.to(x.dtype), down[expert], down_scale, expert)
        out.index_add_(0, tokens, partial.float() * topk_weights[tokens, slots, None])
    return out.to(x.dtype)


def _linear(x: Tensor, weight: Tensor, scale: Tensor | None, expert: int) -> Tensor:
    if scale is None:
        return x @ weight.t()
    codes, x_scale = quantize_rows_torch(x, dtype=weight.dtype)
    return w8a8_matmul_torch(
        codes, weight, x_scale=x_scale, weight_scale=scale[expert], out_dtype=x.dtype
    )


def _check(
    x: Tensor,
    gate_up: Tensor,
    down: Tensor,
    topk_weights: Tensor,
    topk_ids: Tensor,
    gate_up_scale: Tensor | None,
    down_scale: Tensor | None,
) -> None:
    if x.dim() != 2 or gate_up.dim() != 3 or down.dim() != 3:
        raise ValueError(
            "moe_mlp takes x [num_tokens, dim], gate_up [num_experts, 2 * inner, dim] and down"
            f" [num_experts, dim, inner]; not {list(x.shape)}, {list(gate_up.shape)},"
            f" {list(down.shape)}"
        )
    num_tokens, dim = x.shape
    num_experts, _, inner = down.shape
    if gate_up.shape != (num_experts, 2 * inner, dim) or down.shape[1] != dim:
        raise ValueError(
            f"gate_up {list(gate_up.shape)} and down {list(down.shape)} do not fit together and x"
            f" {list(x.shape)}: want [num_experts, 2 * inner, dim] and [num_experts, dim, inner]"
        )
    if x.dtype not in (torch.bfloat16, torch.float16):
        raise ValueError(f"moe_mlp takes bf16 or fp16 activations, not {x.dtype}")
    if topk_ids.dtype != torch.int32 or topk_ids.dim() != 2 or topk_ids.shape[0] != num_tokens:
        raise ValueError(
            f"topk_ids must be int32 [{num_tokens}, top_k],"
            f" not {topk_ids.dtype} {list(topk_ids.shape)}"
        )
    if topk_weights.dtype != torch.float32 or topk_weights.shape != topk_ids.shape:
        raise ValueError(
            f"topk_weights must be fp32 {list(topk_ids.shape)},"
            f" not {topk_weights.dtype} {list(topk_weights.shape)}"
        )
    quantized = gate_up.dtype in (torch.int8, torch.float8_e4m3fn)
    if down.dtype != gate_up.dtype or (not quantized and gate_up.dtype != x.dtype):
        raise ValueError(
            f"expert weights must both be of x's dtype {x.dtype}, int8 or float8_e4m3fn;"
            f" they are {gate_up.dtype} and {down.dtype}"
        )
    for name, scale, rows in (
        ("gate_up_scale", gate_up_scale, 2 * inner),
        ("down_scale", down_scale, dim),
    ):
        if quantized != (scale is not None):
            raise ValueError(f"{name} goes with 8-bit experts, and only with them")
        if scale is not None and (
            scale.dtype != torch.float32 or scale.shape != (num_experts, rows)
        ):
            raise ValueError(
                f"{name} must be fp32 {[num_experts, rows]}, not {scale.dtype} {list(scale.shape)}"
            )
