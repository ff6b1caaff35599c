"""A model on the native CPU kernels, driven by hand: no scheduler, no server."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shoal.engine.models.config import ModelConfig, load_config
from shoal.engine.models.native_llama import NativeLlama
from shoal.engine.models.native_loader import load_native_model
from shoal.engine.models.native_weights import Precision
from shoal.engine.sources.model_files import ModelFiles
from shoal.kernels.cpu.kv_cache import KVCache, KVFormat, KVLayout

BLOCK_SIZE = 16
Tokens = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Part:
    """What one sequence has computed in a step."""

    tokens: Tokens
    """Ids of the tokens to compute."""
    context: int
    """Tokens before them, whose K and V are in the cache."""


class DrivenModel:
    """Each part of a step has its blocks of the KV cache behind those of the part before it."""

    def __init__(
        self,
        files: ModelFiles,
        library: ctypes.CDLL,
        *,
        num_threads: int,
        num_kv_tokens: int,
        precision: Precision = "checkpoint",
        kv_format: KVFormat = "bfloat16",
    ) -> None:
        """num_kv_tokens: of all parts of a step together, each rounded up to whole blocks."""
        config = load_config(files)
        self.model: NativeLlama = load_native_model(
            files, config, library, precision=precision, num_threads=num_threads
        )
        self.config: ModelConfig = self.model.config
        layout = KVLayout(
            kv_format=kv_format,
            block_size=BLOCK_SIZE,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
        )
        num_blocks = 1 + -(-num_kv_tokens // BLOCK_SIZE)
        cache = KVCache(
            library, layout, num_blocks=num_blocks, layer_slots=range(config.num_layers)
        )
        self.kv_bytes_per_token = cache.num_bytes // (num_blocks * BLOCK_SIZE)
        self.model.use_kv_cache(cache)

    def step(self, parts: Sequence[Part]) -> None:
        """Compute one step; a part that comes again in the same place finds its K and V."""
        lengths = np.array([len(part.tokens) for part in parts])
        num_blocks = [-(-(part.context + len(part.tokens)) // BLOCK_SIZE) for part in parts]
        tables = np.zeros((len(parts), max(num_blocks)), np.int32)
        first = 1  # block 0 holds no tokens
        for table, count in zip(tables, num_blocks, strict=True):
            table[:count] = np.arange(first, first + count)
            first += count
        seqs = np.repeat(np.arange(len(parts)), lengths)
        positions = np.concatenate(
            [np.arange(part.context, part.context + len(part.tokens)) for part in parts]
        )
        blocks = tables[seqs, positions // BLOCK_SIZE].astype(np.int64)
        num_groups = len(self.config.kv_groups)
        self.model.step(
            np.concatenate([part.tokens for part in parts]),
            positions,
            query_lens=lengths,
            slot_mapping=[blocks * BLOCK_SIZE + positions % BLOCK_SIZE] * num_groups,
            block_tables=[tables] * num_groups,
        )
