"""Low-rank adapters on Llama-3.1-8B's q, k, v: 64 tokens over 8 adapters, beside what torch can do.

The floor counts the weights of all 8 adapters, the input, and the output read and written.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from shoal.kernels.lora import add_lora, lora_mapping

from .case import Call, Case

DIM = 4096
SLICES = (4096, 1024, 1024)
NUM_ADAPTERS = 8
BF16 = 2


def cases(device: torch.device) -> Iterator[Case]:
    for rank in (16, 64):
        yield _case(device, num_tokens=64, rank=rank)
    yield _case(device, num_tokens=1, rank=16)


def _case(device: torch.device, *, num_tokens: int, rank: int) -> Case:
    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device, dtype=torch.bfloat16)

    out_dim, num_slices = sum(SLICES), len(SLICES)
    adapter_bytes = rank * (num_slices * DIM + out_dim) * BF16
    used = min(num_tokens, NUM_ADAPTERS)
    sets = max(2, min(16, int(150e6 / (adapter_bytes * NUM_ADAPTERS))))
    a = [random(NUM_ADAPTERS, num_slices, rank, DIM) for _ in range(sets)]
    b = [random(NUM_ADAPTERS, out_dim, rank) for _ in range(sets)]
    x, out = random(num_tokens, DIM), random(num_tokens, out_dim)
    ranks = torch.full((NUM_ADAPTERS,), rank, dtype=torch.int32, device=device)
    adapters = torch.arange(num_tokens, device=device, dtype=torch.int32) % NUM_ADAPTERS
    mapping = lora_mapping(adapters, num_adapters=NUM_ADAPTERS)
    rows = [(adapters == adapter).nonzero().flatten() for adapter in range(used)]

    def by_adapter(i: int) -> Tensor:
        for adapter, tokens in enumerate(rows):
            mine, start = x[tokens], 0
            for index, size in enumerate(SLICES):
                shrunk = mine @ a[i][adapter, index].t()
                columns = slice(start, start + size)
                out[tokens, columns] += shrunk @ b[i][adapter, columns].t()
                start += size
        return out

    peers: dict[str, Call] = {"torch, adapter by adapter": by_adapter}
    return Case(
        name=f"add_lora/qkv-{num_tokens}x{NUM_ADAPTERS}-rank{rank}",
        call=lambda i: add_lora(
            out, x, a[i], b[i], mapping=mapping, ranks=ranks, slice_sizes=SLICES
        ),
        bytes_moved=used * adapter_bytes + BF16 * (x.numel() + 2 * out.numel()),
        flops=2 * num_tokens * rank * (num_slices * DIM + out_dim),
        num_inputs=sets,
        peers=peers,
        peers_capturable=True,
    )
