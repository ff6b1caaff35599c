"""The native kernels against the torch modules: models and steps of random sizes."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import Qwen2Config, Qwen2ForCausalLM

from shoal.engine.models.config import load_config
from shoal.engine.models.loader import load_model
from shoal.engine.models.native_llama import NativeLlama
from shoal.engine.models.native_loader import load_native_model
from shoal.engine.models.paged_kv import LayerKV
from shoal.engine.sources.model_files import ModelFiles
from shoal.kernels.cpu.kv_cache import KVCache, KVLayout
from shoal.kernels.kv_cache_shape import kv_cache_shape
from shoal.kernels.paged_batch import PagedBatch
from tests.engine.models.drive import CPU
from tests.kernels.cpu_library import INSTRUCTION_SETS, kernels

EXACT_SETS = [name for name in INSTRUCTION_SETS if not name.startswith("avx512_bf16")]
NUM_STEPS = 6


def save_random_model(rng: random.Random, folder: Path) -> None:
    """Qwen2 has what the others have: biases, and windows on some layers."""
    kv_heads = rng.choice([1, 2, 3])
    config = Qwen2Config(
        vocab_size=rng.randint(2, 200),
        hidden_size=rng.choice([8, 31, 64, 100]) * 2,
        intermediate_size=rng.randint(1, 150),
        num_hidden_layers=2,
        num_attention_heads=kv_heads * rng.choice([1, 2, 3, 5]),
        num_key_value_heads=kv_heads,
        head_dim=rng.choice([16, 32, 48, 64, 80, 128]),
        max_position_embeddings=4096,
        use_sliding_window=rng.random() < 0.5,
        sliding_window=rng.randint(1, 700),
        max_window_layers=rng.randint(0, 2),
        tie_word_embeddings=rng.random() < 0.5,
        initializer_range=0.1,
        pad_token_id=None,
    )  # fmt: skip
    torch.manual_seed(rng.randint(0, 1 << 30))
    model = Qwen2ForCausalLM(config).eval()
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16().float()  # loses nothing in the native format
    model.save_pretrained(folder)


class Pair:
    """Both models with caches of the same shape, and sequences that grow step by step."""

    def __init__(self, folder: Path, isa: str, rng: random.Random) -> None:
        files = ModelFiles(name="tiny", path=folder, format="hf", source="")
        config = load_config(files)
        self.rng, self.config = rng, config
        self.torch = load_model(files, config, dtype=torch.float32, device=CPU)
        self.native: NativeLlama = load_native_model(
            files, config, kernels(isa), precision="checkpoint", num_threads=2
        )
        self.block_size = rng.choice([16, 32, 48])
        num_blocks = 1 + 6 * (1400 // self.block_size)
        shape = kv_cache_shape(num_blocks, self.block_size, config.num_kv_heads, config.head_dim)
        self.torch_caches = [
            LayerKV(torch.full(shape, torch.nan), torch.full(shape, torch.nan))
            for _ in range(config.num_layers)
        ]
        layout = KVLayout(
            kv_format="float32", block_size=self.block_size,
            num_kv_heads=config.num_kv_heads, head_dim=config.head_dim,
        )  # fmt: skip
        num_bytes = 2 * config.num_layers * num_blocks * layout.keys_bytes(self.native.library)
        self.native.use_kv_cache(
            KVCache(
                self.native.library, layout, num_blocks=num_blocks,
                layer_slots=range(config.num_layers), memory=np.full(num_bytes, 0xFF, np.uint8),
            )
        )  # fmt: skip
        self.free = [list(range(1, num_blocks)) for _ in config.kv_groups]
        for blocks in self.free:
            rng.shuffle(blocks)
        self.tables: list[list[list[int]]] = []
        """Per sequence and KV group."""
        self.lengths: list[int] = []

    def step(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Decodes and chunks of some sequences: the logits of both, [num_tokens, vocab_size]."""
        rng = self.rng
        if len(self.lengths) < 5 and (not self.lengths or rng.random() < 0.6):
            self.lengths.append(0)
            self.tables.append([[] for _ in self.free])
        chosen = rng.sample(range(len(self.lengths)), rng.randint(1, len(self.lengths)))
        query_lens = [rng.choice([1, 1, rng.randint(1, 90), rng.randint(1, 260)]) for _ in chosen]
        order = sorted(range(len(chosen)), key=lambda i: query_lens[i] != 1)  # decodes lead
        chosen = [chosen[i] for i in order]
        lens = np.array([query_lens[i] for i in order])
        positions: list[NDArray[np.int64]] = []
        for seq, count in zip(chosen, lens.tolist(), strict=True):
            positions.append(np.arange(self.lengths[seq], self.lengths[seq] + count))
            self.lengths[seq] += count
            for table, free in zip(self.tables[seq], self.free, strict=True):
                while len(table) * self.block_size < self.lengths[seq]:
                    table.append(free.pop())
        width = max(len(self.tables[seq][0]) for seq in chosen)
        tables, slots = [], []
        for group in range(len(self.free)):
            table = np.zeros((len(chosen), width), np.int32)
            for row, seq in enumerate(chosen):
                table[row, : len(self.tables[seq][group])] = self.tables[seq][group]
            tables.append(table)
            slots.append(
                np.concatenate([
                    table[row, p // self.block_size].astype(np.int64) * self.block_size
                    + p % self.block_size
                    for row, p in enumerate(positions)
                ])
            )  # fmt: skip
        where = np.concatenate(positions)
        ids = np.array([rng.randrange(self.config.vocab_size) for _ in where])
        self.native.step(ids, where, query_lens=lens, slot_mapping=slots, block_tables=tables)
        found = torch.from_numpy(self.native.logits(np.arange(len(ids))))
        batches = [
            PagedBatch(
                query_lens=lens,
                seq_lens=np.array([self.lengths[seq] for seq in chosen]),
                block_tables=torch.from_numpy(table),
                slot_mapping=torch.from_numpy(of_group),
                block_size=self.block_size,
                sliding_window=group.sliding_window,
            )
            for table, of_group, group in zip(tables, slots, self.config.kv_groups, strict=True)
        ]
        with torch.inference_mode():
            hidden = self.torch(
                torch.from_numpy(ids), torch.from_numpy(where), self.torch_caches, batches
            )
            return found, self.torch.compute_logits(hidden)


@pytest.mark.parametrize("isa", EXACT_SETS)
@pytest.mark.parametrize("seed", range(12))
def test_random_models_and_steps(seed: int, isa: str, tmp_path: Path) -> None:
    rng = random.Random(seed)
    save_random_model(rng, tmp_path)
    pair = Pair(tmp_path, isa, rng)
    for _ in range(NUM_STEPS):
        found, expected = pair.step()
        size = float(expected.abs().max())
        torch.testing.assert_close(found, expected, atol=2e-4 * max(size, 1), rtol=0)
