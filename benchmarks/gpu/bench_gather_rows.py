"""Embeddings of Llama-3.1-8B's vocabulary: 4,096 random tokens, and 64."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from shoal.kernels.gather_rows import gather_rows

from .case import Case

VOCAB = 128_256
HIDDEN = 4096
SETS = 8
TARGET = 0.85


def cases(device: torch.device) -> Iterator[Case]:
    table = torch.randn(VOCAB, HIDDEN, device=device, dtype=torch.bfloat16)
    for num_tokens in (4096, 64):
        yield _case(table, num_tokens)


def _case(table: Tensor, num_tokens: int) -> Case:
    ids = [torch.randint(0, VOCAB, (num_tokens,), device=table.device) for _ in range(SETS)]
    kept: list[object] = [None] * SETS

    def ours(i: int) -> object:
        kept[i] = gather_rows(table, ids[i])
        return kept[i]

    def index_select(i: int) -> object:
        kept[i] = table.index_select(0, ids[i])
        return kept[i]

    return Case(
        name=f"gather_rows/{num_tokens}x{HIDDEN}",
        call=ours,
        bytes_moved=num_tokens * (2 * HIDDEN * 2 + 8),
        num_inputs=SETS,
        peers={"torch index_select": index_select},
        target=TARGET if num_tokens >= 4096 else None,
    )
