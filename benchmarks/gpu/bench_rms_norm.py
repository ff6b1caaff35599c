"""Norms of Llama-3.1-8B's hidden size: a prefill step of 4,096 tokens, a decode step of 64."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional

from shoal.kernels.rms_norm import (
    fused_add_rms_norm,
    fused_add_rms_norm_fp8,
    rms_norm,
    rms_norm_fp8,
)

from .case import Call, Case

HIDDEN = 4096
EPS = 1e-5
TARGET = 0.85


def cases(device: torch.device) -> Iterator[Case]:
    yield from _cases(device, num_tokens=4096, sets=4)
    yield from _cases(device, num_tokens=64, sets=1)


def _cases(device: torch.device, *, num_tokens: int, sets: int) -> Iterator[Case]:
    x, residual = (
        [torch.randn(num_tokens, HIDDEN, device=device, dtype=torch.bfloat16) for _ in range(sets)]
        for _ in range(2)
    )
    weight = torch.randn(HIDDEN, device=device, dtype=torch.bfloat16)
    # Kept until the next call on the same inputs, so that outputs do not stay in the L2 cache
    # either.
    kept: list[object] = [None] * sets
    entries = num_tokens * HIDDEN
    target = TARGET if num_tokens >= 4096 else None

    def norm(i: int) -> object:
        kept[i] = rms_norm(x[i], weight, eps=EPS)
        return kept[i]

    def norm_fp8(i: int) -> object:
        kept[i] = rms_norm_fp8(x[i], weight, eps=EPS)
        return kept[i]

    def add_norm(i: int) -> object:
        kept[i] = fused_add_rms_norm(x[i], residual[i], weight, eps=EPS)
        return kept[i]

    def add_norm_fp8(i: int) -> object:
        kept[i] = fused_add_rms_norm_fp8(x[i], residual[i], weight, eps=EPS)
        return kept[i]

    def torch_norm(i: int) -> object:
        kept[i] = functional.rms_norm(x[i], weight.shape, weight, EPS)
        return kept[i]

    def torch_add_norm(i: int) -> object:
        residual[i] += x[i]
        kept[i] = functional.rms_norm(residual[i], weight.shape, weight, EPS)
        return kept[i]

    # Bytes an entry: bf16 in and out, the residual in and out, fp8 out.
    table: list[tuple[str, Call, int, dict[str, Call]]] = [
        ("rms_norm", norm, 2 + 2, {"torch": torch_norm}),
        ("rms_norm_fp8", norm_fp8, 2 + 1, {}),
        ("fused_add_rms_norm", add_norm, 2 + 4 + 2, {"torch, two kernels": torch_add_norm}),
        ("fused_add_rms_norm_fp8", add_norm_fp8, 2 + 4 + 1, {}),
    ]
    for name, call, entry_bytes, peers in table if num_tokens > 64 else table[2:]:
        yield Case(
            name=f"{name}/{num_tokens}x{HIDDEN}",
            call=call,
            bytes_moved=entries * entry_bytes,
            num_inputs=sets,
            peers=peers,
            target=target,
        )
