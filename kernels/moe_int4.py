"""The MLPs of a mixture of experts whose weights have 4 bits."""

from __future__ import annotations

import torch
from torch import Tensor

from .dispatch import uses_triton
from .int4_weight import Int4Weight
from .moe import moe_mlp_torch
from .w4a16_matmul import dequantize_int4


def moe_mlp_int4(
    x: Tensor,
    gate_up: Int4Weight,
    down: Int4Weight,
    *,
    topk_weights: Tensor,
    topk_ids: Tensor,
) -> Tensor:
    """`moe_mlp` with weights as `w4a16_matmul` takes them.

    The rows of all experts are one weight: gate_up of [num_experts * 2 * inner, dim] (gate rows,
    then up rows, of each expert), down of [num_experts * dim, inner]. x: [num_tokens, dim] bf16 or
    fp16; topk_weights: [num_tokens, top_k] fp32; topk_ids: [num_tokens, top_k] int32, where what is
    no expert adds nothing. Returns [num_tokens, dim] of x's dtype; the activation between the two
    products is rounded to it, too.
    """
    _check(x, gate_up, down, topk_weights, topk_ids)
    if x.shape[0] and uses_triton(x):
        from .triton.moe_int4 import moe_mlp_int4 as moe_mlp_int4_triton

        return moe_mlp_int4_triton(x, gate_up, down, topk_weights, topk_ids)
    return moe_mlp_int4_torch(x, gate_up, down, topk_weights=topk_weights, topk_ids=topk_ids)


def moe_mlp_int4_torch(
    x: Tensor,
    gate_up: Int4Weight,
    down: Int4Weight,
    *,
    topk_weights: Tensor,
    topk_ids: Tensor,
) -> Tensor:
    """The meaning of `moe_mlp_int4`."""
    inner, dim = down.dim, gate_up.dim
    out = moe_mlp_torch(
        x.float(),
        dequantize_int4(gate_up).view(-1, 2 * inner, dim),
        dequantize_int4(down).view(-1, dim, inner),
        topk_weights=topk_weights,
        topk_ids=topk_ids,
    )
    return out.to(x.dtype)


def _check(
    x: Tensor, gate_up: Int4Weight, down: Int4Weight, topk_weights: Tensor, topk_ids: Tensor
) -> None:
    if x.dtype not in (torch.bfloat16, torch.float16):
        raise ValueError(f"moe_mlp_int4 takes bf16 or fp16 activations, not {x.dtype}")
    dim, inner = gate_up.dim, down.dim
    if x.dim() != 2 or x.shape[1] != dim:
        raise ValueError(f"x must be [num_tokens, {dim}], not {list(x.shape)}")
    num_experts = down.out_dim // dim
    if down.out_dim != num_experts * dim or gate_up.out_dim != num_experts * 2 * inner:
        raise ValueError(
            f"gate_up [{gate_up.out_dim}, {dim}] and down [{down.out_dim}, {inner}] do not fit"
            " together: want [num_experts * 2 * inner, dim] and [num_experts * dim, inner]"
        )
    if topk_ids.dtype != torch.int32 or topk_ids.dim() != 2 or topk_ids.shape[0] != x.shape[0]:
        raise ValueError(
            f"topk_ids must be int32 [{x.shape[0]}, top_k],"
            f" not {topk_ids.dtype} {list(topk_ids.shape)}"
        )
    if topk_weights.dtype != torch.float32 or topk_weights.shape != topk_ids.shape:
        raise ValueError(
            f"topk_weights must be fp32 {list(topk_ids.shape)},"
            f" not {topk_weights.dtype} {list(topk_weights.shape)}"
        )
