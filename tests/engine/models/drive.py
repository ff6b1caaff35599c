"""Drives a model through its paged cache the way a runner does, one request at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shoal.engine.models.causal_lm import CausalLM
from shoal.engine.models.config import ModelConfig
from shoal.engine.models.native_llama import NativeLlama
from shoal.engine.models.paged_kv import LayerKV
from shoal.kernels.cpu.kv_cache import KVCache, KVFormat, KVLayout
from shoal.kernels.kv_cache_shape import kv_cache_shape
from shoal.kernels.paged_batch import PagedBatch

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive tokens of the one request, and where their K and V go."""

    token_ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    slots: list[NDArray[np.int64]]
    """Per KV cache group."""
    end: int


def cut(
    token_ids: Sequence[int],
    chunks: Sequence[int],
    tables: list[NDArray[np.int32]],
    block_size: int,
) -> list[Chunk]:
    assert sum(chunks) == len(token_ids)
    all_ids, parts, start = np.array(token_ids, np.int64), [], 0
    for size in chunks:
        positions = np.arange(start, start + size)
        start += size
        slots = [
            table[0, positions // block_size].astype(np.int64) * block_size + positions % block_size
            for table in tables
        ]
        parts.append(Chunk(all_ids[positions], positions, slots, start))
    return parts


def permuted_tables(config: ModelConfig, num_blocks: int) -> list[NDArray[np.int32]]:
    """A block table [1, num_blocks] for each KV group, in an order of its own."""
    rng = np.random.default_rng(num_blocks)
    return [rng.permutation(num_blocks).astype(np.int32)[None] + 1 for _ in config.kv_groups]


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
    num_blocks = -(-len(token_ids) // block_size)
    shape = kv_cache_shape(num_blocks + 1, block_size, config.num_kv_heads, config.head_dim)
    poison = torch.full(shape, torch.nan, dtype=kv_dtype)
    caches = [LayerKV(poison.clone(), poison.clone()) for _ in config.layer_group]
    tables = permuted_tables(config, num_blocks)
    parts = []
    for chunk in cut(token_ids, chunks, tables, block_size):
        batches = [
            PagedBatch(
                query_lens=np.array([len(chunk.token_ids)]),
                seq_lens=np.array([chunk.end]),
                block_tables=torch.from_numpy(table),
                slot_mapping=torch.from_numpy(slots),
                block_size=block_size,
                sliding_window=group.sliding_window,
            )
            for table, slots, group in zip(tables, chunk.slots, config.kv_groups, strict=True)
        ]
        hidden = model(
            torch.from_numpy(chunk.token_ids), torch.from_numpy(chunk.positions), caches, batches
        )
        parts.append(model.compute_logits(hidden))
    return torch.cat(parts)


def native_logits_in_chunks(
    model: NativeLlama,
    token_ids: list[int],
    chunks: Sequence[int],
    *,
    block_size: int = 16,
    kv_format: KVFormat = "float32",
) -> Tensor:
    """The same on the native kernels. Bytes that nobody wrote are those of a NaN in each format."""
    config = model.config
    num_blocks = -(-len(token_ids) // block_size)
    layout = KVLayout(
        kv_format=kv_format,
        block_size=block_size,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
    )
    num_layers = config.num_layers
    num_bytes = 2 * num_layers * (num_blocks + 1) * layout.keys_bytes(model.library)
    cache = KVCache(
        model.library,
        layout,
        num_blocks=num_blocks + 1,
        layer_slots=range(num_layers),
        memory=np.full(num_bytes, 0xFF, np.uint8),
    )
    model.use_kv_cache(cache)
    tables = permuted_tables(config, num_blocks)
    parts = []
    for chunk in cut(token_ids, chunks, tables, block_size):
        model.step(
            chunk.token_ids,
            chunk.positions,
            query_lens=np.array([len(chunk.token_ids)]),
            slot_mapping=chunk.slots,
            block_tables=tables,
        )
        parts.append(torch.from_numpy(model.logits(np.arange(len(chunk.token_ids)))))
    return torch.cat(parts)
