"""4-bit linear layers of Llama-3.1-8B beside cuBLAS in bf16; torch's own 4-bit product at decode.

The bytes are those of codes and scales: 0.516 a weight with groups of 128 and no zeros.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from shoal.kernels.int4_weight import Int4Weight, quantize_int4
from shoal.kernels.w4a16_matmul import w4a16_matmul

from .case import Call, Case
from .linear_layers import DECODE, LAYERS, PREFILL_TOKENS, TARGET, num_sets

GROUP = 128


def cases(device: torch.device) -> Iterator[Case]:
    yield _case(device, "gate_up", 1)
    for layer, num_tokens in DECODE:
        yield _case(device, layer, num_tokens)
    yield _case(device, "gate_up", PREFILL_TOKENS)


def _case(device: torch.device, layer: str, num_tokens: int) -> Case:
    out_dim, dim = LAYERS[layer]
    dense = torch.randn(out_dim, dim, device=device, dtype=torch.bfloat16)
    weight = quantize_int4(dense, group_size=GROUP, symmetric=True)
    is_decode = num_tokens < PREFILL_TOKENS
    weight_bytes = _bytes(weight)
    sets = num_sets(weight_bytes) if is_decode else 1
    weights = [weight, *(_copy(weight) for _ in range(sets - 1))]
    dense_weights = [dense, *(dense.clone() for _ in range(min(sets, 6) - 1))]
    x = torch.randn(num_tokens, dim, device=device, dtype=torch.bfloat16)
    peers: dict[str, Call] = {
        "cuBLAS bf16": lambda i: x @ dense_weights[i % len(dense_weights)].t()
    }
    if is_decode:
        peers["torch._weight_int4pack_mm, one weight"] = _by_torch(x, dense)
    return Case(
        name=f"w4a16_matmul/{layer}-{num_tokens}",
        call=lambda i: w4a16_matmul(x, weights[i]),
        bytes_moved=weight_bytes + 2 * x.numel() + 2 * num_tokens * out_dim,
        flops=2 * num_tokens * out_dim * dim,
        num_inputs=sets,
        peers=peers,
        peers_capturable=True,
        target=TARGET if is_decode else None,
    )


def _bytes(weight: Int4Weight) -> int:
    tensors = (weight.packed, weight.scales)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _copy(weight: Int4Weight) -> Int4Weight:
    return Int4Weight(
        packed=weight.packed.clone(),
        scales=weight.scales.clone(),
        zeros=None,
        dim=weight.dim,
        group_size=weight.group_size,
    )


def _by_torch(x: Tensor, dense: Tensor) -> Call:
    """torch's own 4-bit product, of random codes; its weight is made at the first call, so that a
    torch that cannot is a failed peer."""
    out_dim, dim = dense.shape
    made: list[tuple[Tensor, Tensor]] = []

    def call(_: int) -> Tensor:
        if not made:
            codes = torch.randint(0, 256, (out_dim, dim // 2), device=x.device, dtype=torch.uint8)
            groups = (dim // GROUP, out_dim, 2)
            scales_and_zeros = torch.rand(groups, device=x.device, dtype=torch.bfloat16)
            made.append((torch._convert_weight_to_int4pack(codes, 8), scales_and_zeros))
        packed, scales_and_zeros = made[0]
        return torch._weight_int4pack_mm(x, packed, GROUP, scales_and_zeros)

    return call
