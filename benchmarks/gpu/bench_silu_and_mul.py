"""The activation of Llama-3.1-8B's MLP: a prefill step of 4,096 tokens, a decode step of 64."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional

from shoal.kernels.silu_and_mul import silu_and_mul, silu_and_mul_fp8

from .case import Call, Case

INNER = 14_336
TARGET = 0.85


def cases(device: torch.device) -> Iterator[Case]:
    yield from _cases(device, num_tokens=4096, sets=2)
    yield from _cases(device, num_tokens=64, sets=1)


def _cases(device: torch.device, *, num_tokens: int, sets: int) -> Iterator[Case]:
    gate_up = [
        torch.randn(num_tokens, 2 * INNER, device=device, dtype=torch.bfloat16) for _ in range(sets)
    ]
    # Kept until the next call on the same inputs: outputs do not stay in the L2 cache either.
    kept: list[object] = [None] * sets

    def plain(i: int) -> object:
        kept[i] = silu_and_mul(gate_up[i])
        return kept[i]

    def fp8(i: int) -> object:
        kept[i] = silu_and_mul_fp8(gate_up[i])
        return kept[i]

    def torch_two_kernels(i: int) -> object:
        gate, up = gate_up[i].chunk(2, dim=-1)
        kept[i] = functional.silu(gate).mul_(up)
        return kept[i]

    table: list[tuple[str, Call, int, dict[str, Call]]] = [
        ("silu_and_mul", plain, 4 + 2, {"torch, two kernels": torch_two_kernels}),
        ("silu_and_mul_fp8", fp8, 4 + 1, {}),
    ]
    for name, call, entry_bytes, peers in table:
        yield Case(
            name=f"{name}/{num_tokens}x{INNER}",
            call=call,
            bytes_moved=num_tokens * INNER * entry_bytes,
            num_inputs=sets,
            peers=peers,
            target=TARGET if num_tokens >= 4096 else None,
        )
