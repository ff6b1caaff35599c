"""A model whose next token is arithmetic over what attention finds in the paged cache.

Queries are zero, so attention returns the mean of the attended values; a value holds
(token id + 1) * (position + 3). A wrong slot, table, length, window or position changes the sum
and with it the token; `expected_tokens` gives the right ones from the token list alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shoal.engine.core.config import KVCacheGroup
from shoal.engine.models.paged_kv import LayerKV
from shoal.kernels.attention_metadata import AttentionMetadata
from shoal.kernels.paged_attention import paged_attention
from shoal.kernels.paged_batch import PagedBatch
from shoal.kernels.reshape_and_cache import reshape_and_cache

VOCAB = 61
HEAD_DIM = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeConfig:
    """The part of a ModelConfig that a runner reads."""

    vocab_size: int = VOCAB
    num_kv_heads: int = 1
    head_dim: int = HEAD_DIM
    kv_groups: tuple[KVCacheGroup, ...] = (KVCacheGroup(),)
    layer_group: tuple[int, ...] = (0,)


class FakeModel(nn.Module):
    """One layer per KV cache group, each of which adds its checksum to the hidden state."""

    def __init__(self, windows: Sequence[int | None] = (None,)) -> None:
        super().__init__()
        self.config = FakeConfig(
            kv_groups=tuple(KVCacheGroup(sliding_window=window) for window in windows),
            layer_group=tuple(range(len(windows))),
        )
        self.num_logit_rows = 0
        """Most rows of logits that were asked for at once."""

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor,
        kv_caches: list[LayerKV],
        batches: list[PagedBatch],
    ) -> Tensor:
        weighted = (input_ids + 1) * (positions + 3)
        value = weighted.float().view(-1, 1, 1).expand(-1, 1, HEAD_DIM).contiguous()
        zeros = torch.zeros_like(value)
        checksums = torch.zeros(len(input_ids))
        for group, kv, batch in zip(self.config.kv_groups, kv_caches, batches, strict=True):
            keys, values = kv.keys, kv.values
            of_group = AttentionMetadata.build(batch, input_ids.device)
            reshape_and_cache(zeros, value, keys, values, of_group.slot_mapping)
            mean = paged_attention(zeros, keys, values, of_group, scale=1.0)[:, 0, 0]
            num_attended = positions + 1 - first_attended(positions, group.sliding_window)
            checksums += (mean * num_attended).round()
        return checksums.unsqueeze(1)

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """Distinct logits, the best at checksum modulo the vocabulary: 0, -1, -2 ... from there."""
        self.num_logit_rows = max(self.num_logit_rows, len(hidden))
        return -((torch.arange(VOCAB) - hidden) % VOCAB).float()


def first_attended(positions: Tensor, window: int | None) -> Tensor:
    if window is None:
        return torch.zeros_like(positions)
    return (positions - window + 1).clamp(min=0)


def expected_tokens(
    prompt: Sequence[int], num_tokens: int, *, windows: Sequence[int | None] = (None,)
) -> list[int]:
    """The greedy output for a prompt, one token at a time and without any cache."""
    tokens = list(prompt)
    for _ in range(num_tokens):
        total = 0
        for window in windows:
            start = 0 if window is None else max(len(tokens) - window, 0)
            total += sum((tokens[p] + 1) * (p + 3) for p in range(start, len(tokens)))
        tokens.append(total % VOCAB)
    return tokens[len(prompt) :]
