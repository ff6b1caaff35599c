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
from shoal.kernels.cpu.kv_layout import KVFormat, kv_block_bytes
from shoal.kernels.cpu.memory import zeroed

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
    """Sequences 0, 1, ... have a contiguous piece of the KV cache each, `max_len` tokens long."""

    def __init__(
        self,
        files: ModelFiles,
        library: ctypes.CDLL,
        *,
        num_threads: int,
        num_seqs: int,
        max_len: int,
        precision: Precision = "checkpoint",
        kv_format: KVFormat = "bfloat16",
    ) -> None:
        config = load_config(files)
        self.model: NativeLlama = load_native_model(
            files, config, library, precision=precision, num_threads=num_threads
        )
        self.config: ModelConfig = self.model.config
        per_seq = -(-max_len // BLOCK_SIZE)
        self._tables = 1 + np.arange(num_seqs * per_seq, dtype=np.int32).reshape(num_seqs, per_seq)
        num_bytes = (1 + num_seqs * per_seq) * kv_block_bytes(
            library, kv_format,
            block_size=BLOCK_SIZE, num_kv_heads=config.num_kv_heads, head_dim=config.head_dim,
        )  # fmt: skip
        caches = [(zeroed(num_bytes), zeroed(num_bytes)) for _ in range(config.num_layers)]
        self.model.use_kv_cache(caches, kv_format, block_size=BLOCK_SIZE)

    def step(self, parts: Sequence[Part]) -> None:
        """Compute one step; part i is of sequence i."""
        seqs = np.repeat(np.arange(len(parts)), [len(part.tokens) for part in parts])
        positions = np.concatenate(
            [np.arange(part.context, part.context + len(part.tokens)) for part in parts]
        )
        blocks = self._tables[seqs, positions // BLOCK_SIZE].astype(np.int64)
        self.model.forward(
            np.concatenate([part.tokens for part in parts]),
            positions,
            query_lens=np.array([len(part.tokens) for part in parts]),
            slot_mapping=[blocks * BLOCK_SIZE + positions % BLOCK_SIZE] * self._num_groups,
            block_tables=[self._tables[: len(parts)]] * self._num_groups,
        )

    @property
    def _num_groups(self) -> int:
        return len(self.config.kv_groups)
