"""Drives a model through its paged cache the way a runner does, one request at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from shoal.engine.models.llama import LlamaForCausalLM
from shoal.kernels.kv_cache_shape import kv_cache_shape
from shoal.kernels.paged_batch import PagedBatch

BLOCK_SIZE = 4
CPU = torch.device("cpu")


@torch.inference_mode()
def logits_in_chunks(
    model: LlamaForCausalLM, token_ids: list[int], chunks: Sequence[int]
) -> Tensor:
    """Logits [num_tokens, vocab] of a prompt computed in chunks of these sizes.

    Each KV group has permuted blocks of its own, and slots nobody wrote hold NaN.
    """
    config = model.config
    assert sum(chunks) == len(token_ids)
    num_blocks = -(-len(token_ids) // BLOCK_SIZE)
    shape = kv_cache_shape(num_blocks + 1, BLOCK_SIZE, config.num_kv_heads, config.head_dim)
    poison = torch.full(shape, torch.nan, dtype=model.model.embed_tokens.weight.dtype)
    caches = [(poison.clone(), poison.clone()) for _ in config.layer_group]
    rng = torch.Generator().manual_seed(len(token_ids))
    tables = [torch.randperm(num_blocks, generator=rng)[None] + 1 for _ in config.kv_groups]
    parts, start = [], 0
    for chunk in chunks:
        positions = torch.arange(start, start + chunk)
        start += chunk
        offsets = positions % BLOCK_SIZE
        batches = [
            PagedBatch(
                query_lens=np.array([chunk]),
                seq_lens=np.array([start]),
                block_tables=table.int(),
                slot_mapping=table[0, positions // BLOCK_SIZE] * BLOCK_SIZE + offsets,
                block_size=BLOCK_SIZE,
                sliding_window=group.sliding_window,
            )
            for table, group in zip(tables, config.kv_groups, strict=True)
        ]
        input_ids = torch.tensor(token_ids)[positions]
        parts.append(model.compute_logits(model(input_ids, positions, caches, batches)))
    return torch.cat(parts)
