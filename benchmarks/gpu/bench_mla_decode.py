"""MLA decode at DeepSeek-V3's shape: 128 heads share one latent row of 512 + 64 numbers a token."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from shoal.kernels.mla_decode import mla_decode

from .case import Call, Case

KEY_DIM, VALUE_DIM, BLOCK_SIZE = 576, 512, 64
SCALE = 192**-0.5

BATCHES = ((64, 4096, 128), (128, 4096, 16), (1, 32768, 128))
"""(sequences, keys of each, heads): all heads on one GPU; an eighth of them, as under tensor
parallelism, where bytes count; one long sequence."""


def cases(device: torch.device) -> Iterator[Case]:
    for num_seqs, seq_len, num_heads in BATCHES:
        yield _case(num_seqs, seq_len, num_heads, device)


def _case(num_seqs: int, seq_len: int, num_heads: int, device: torch.device) -> Case:
    blocks = seq_len // BLOCK_SIZE
    cache = torch.randn(num_seqs * blocks, BLOCK_SIZE, KEY_DIM, device=device, dtype=torch.bfloat16)
    tables = torch.randperm(num_seqs * blocks, device=device).int().view(num_seqs, blocks)
    lens = torch.full((num_seqs,), seq_len, dtype=torch.int32, device=device)
    query = torch.randn(num_seqs, num_heads, KEY_DIM, device=device, dtype=torch.bfloat16)
    out = query.new_empty(num_seqs, num_heads, VALUE_DIM)

    def ours(_: int) -> object:
        return mla_decode(
            query, cache, tables, lens, value_dim=VALUE_DIM, scale=SCALE, max_seq_len=seq_len,
            out=out,
        )  # fmt: skip

    return Case(
        name=f"mla_decode/{num_seqs}x{seq_len}-{num_heads}heads-bf16",
        call=ours,
        bytes_moved=2 * (cache.numel() + query.numel() + out.numel()),
        flops=2 * num_seqs * seq_len * num_heads * (KEY_DIM + VALUE_DIM),
        peers={"sdpa": _sdpa(query, cache, tables)},
    )


def _sdpa(query: Tensor, cache: Tensor, tables: Tensor) -> Call:
    """torch's attention on a dense copy of the rows, made beforehand: all heads share the key."""
    rows = cache[tables.long()].flatten(1, 2)[:, None]

    def call(_: int) -> Tensor:
        return scaled_dot_product_attention(
            query[:, None], rows, rows[..., :VALUE_DIM], scale=SCALE
        )

    return call
