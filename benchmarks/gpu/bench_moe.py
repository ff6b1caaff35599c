"""Expert layers of the sizes of Mixtral 8x7B and Qwen3-30B-A3B, in bf16, and one in fp8 and int4.

The floor counts the weights of the experts that this batch's random routes chose, and the
operations of its pairs; the peer is one torch product after the other, expert by expert, with the
routes known to the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from shoal.kernels.int4_weight import quantize_int4
from shoal.kernels.moe import moe_mlp
from shoal.kernels.moe_int4 import moe_mlp_int4
from shoal.kernels.moe_routing import topk_softmax
from shoal.kernels.quantize_rows import quantize_rows

from .case import Call, Case

TOKENS = (1, 64, 4096)
BF16 = 2
GROUP = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    name: str
    num_experts: int
    top_k: int
    dim: int
    inner: int


SHAPES = (
    Shape(name="qwen3-30b-a3b", num_experts=128, top_k=8, dim=2048, inner=768),
    Shape(name="mixtral-8x7b", num_experts=8, top_k=2, dim=4096, inner=14_336),
)


def cases(device: torch.device) -> Iterator[Case]:
    for shape in SHAPES:
        gate_up = _random(device, shape.num_experts, 2 * shape.inner, shape.dim)
        down = _random(device, shape.num_experts, shape.dim, shape.inner)
        for num_tokens in TOKENS:
            yield _case(shape, num_tokens, gate_up, down, None)
        if shape.name.startswith("qwen3"):
            fp8_gate_up, gate_up_scale = quantize_rows(gate_up, dtype=torch.float8_e4m3fn)
            fp8_down, down_scale = quantize_rows(down, dtype=torch.float8_e4m3fn)
            scales = (gate_up_scale[..., 0], down_scale[..., 0])
            yield _case(shape, 64, fp8_gate_up, fp8_down, scales)
            yield _int4_case(shape, 64, gate_up, down)


def _random(device: torch.device, num_experts: int, rows: int, dim: int) -> Tensor:
    weight = torch.empty(num_experts, rows, dim, device=device, dtype=torch.bfloat16)
    return weight.normal_(std=dim**-0.5)


def _case(
    shape: Shape,
    num_tokens: int,
    gate_up: Tensor,
    down: Tensor,
    scales: tuple[Tensor, Tensor] | None,
) -> Case:
    device = gate_up.device
    x = torch.randn(num_tokens, shape.dim, device=device, dtype=torch.bfloat16)
    # Few experts fit the L2 cache together, so a batch of one takes turns with other routes.
    sets = 8 if num_tokens == 1 else 1
    routes = [
        topk_softmax(torch.randn(num_tokens, shape.num_experts, device=device), top_k=shape.top_k)
        for _ in range(sets)
    ]
    num_used = len(set(routes[0][1].flatten().tolist()))
    entry_bytes = gate_up.element_size()
    peers: dict[str, Call] = {}
    if scales is None:
        peers["torch, expert by expert"] = _by_expert(x, gate_up, down, routes[0])

    def call(i: int) -> Tensor:
        weights, ids = routes[i]
        if scales is None:
            return moe_mlp(x, gate_up, down, topk_weights=weights, topk_ids=ids)
        return moe_mlp(
            x,
            gate_up,
            down,
            topk_weights=weights,
            topk_ids=ids,
            gate_up_scale=scales[0],
            down_scale=scales[1],
        )

    return Case(
        name=f"moe_mlp/{shape.name}-{num_tokens}-{'bf16' if scales is None else 'fp8'}",
        call=call,
        bytes_moved=num_used * 3 * shape.dim * shape.inner * entry_bytes + 2 * BF16 * x.numel(),
        flops=6 * num_tokens * shape.top_k * shape.dim * shape.inner,
        flop_rate="bf16" if scales is None else "fp8",
        num_inputs=sets,
        peers=peers,
        peers_capturable=True,
    )


def _int4_case(shape: Shape, num_tokens: int, gate_up: Tensor, down: Tensor) -> Case:
    x = torch.randn(num_tokens, shape.dim, device=gate_up.device, dtype=torch.bfloat16)
    logits = torch.randn(num_tokens, shape.num_experts, device=x.device)
    weights, ids = topk_softmax(logits, top_k=shape.top_k)
    int4 = [
        quantize_int4(weight.flatten(0, 1), group_size=GROUP, symmetric=True)
        for weight in (gate_up, down)
    ]
    expert_bytes = 3 * shape.dim * shape.inner * (0.5 + BF16 / GROUP)
    num_used = len(set(ids.flatten().tolist()))
    return Case(
        name=f"moe_mlp/{shape.name}-{num_tokens}-int4",
        call=lambda _: moe_mlp_int4(x, *int4, topk_weights=weights, topk_ids=ids),
        bytes_moved=int(num_used * expert_bytes) + 2 * BF16 * x.numel(),
        flops=6 * num_tokens * shape.top_k * shape.dim * shape.inner,
    )


def _by_expert(x: Tensor, gate_up: Tensor, down: Tensor, route: tuple[Tensor, Tensor]) -> Call:
    """The layer as a loop over the chosen experts; which tokens are theirs is known beforehand."""
    weights, ids = route
    places = [(e, *(ids == e).nonzero(as_tuple=True)) for e in sorted(set(ids.flatten().tolist()))]
    shares = [weights[tokens, slots, None] for _, tokens, slots in places]

    def call(_: int) -> Tensor:
        out = torch.zeros(x.shape, device=x.device)
        for (expert, tokens, _), share in zip(places, shares, strict=True):
            gate, up = (x[tokens] @ gate_up[expert].t()).chunk(2, dim=-1)
            partial = (functional.silu(gate) * up) @ down[expert].t()
            out.index_add_(0, tokens, partial.float() * share)
        return out.to(x.dtype)

    return call
