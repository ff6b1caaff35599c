"""Drives a model through its paged cache the way a runner does, one request at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from shoal.engine.models.causal_lm import CausalLM
from shoal.kernels.kv_cache_shape import kv_cache_shape
from shoal.kernels.paged_batch import PagedBatch

CPU = torch.device("cpu")


@torch.inference_mode()
def logits_in_chunks(
    model: CausalLM,
    token_ids: list[int],
    chunks: Sequence[int],
    *,
    block_size: int = 4,
    kv_dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Logits [num_tokens, vocab] of a prompt computed in chunks of these sizes.

    Each KV group has permuted blocks of its own, and slots nobody wrote hold NaN.
    """
    config = model.config
    assert sum(chunks) == len(token_ids)
    num_blocks = -(-len(token_ids) // block_size)
    shape = kv_cache_shape(num_blocks + 1, block_size, config.num_kv_heads, config.head_dim)
    poison = torch.full(shape, torch.nan, dtype=kv_dtype)
    caches = [(poison.clone(), poison.clone()) for _ in config.layer_group]
    rng = torch.Generator().manual_seed(len(token_ids))
    tables = [torch.randperm(num_blocks, generator=rng)[None] + 1 for _ in config.kv_groups]
    parts, start = [], 0
    for chunk in chunks:
        positions = torch.arange(start, start + chunk)
        start += chunk
        offsets = positions % block_size
        batches = [
            PagedBatch(
                query_lens=np.array([chunk]),
                seq_lens=np.array([start]),
                block_tables=table.int(),
                slot_mapping=table[0, positions // block_size] * block_size + offsets,
                block_size=block_size,
                sliding_window=group.sliding_window,
            )
            for table, group in zip(tables, config.kv_groups, strict=True)
        ]
        input_ids = torch.tensor(token_ids)[positions]
        parts.append(model.compute_logits(model(input_ids, positions, caches, batches)))
    return torch.cat(parts)
