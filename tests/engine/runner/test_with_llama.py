"""Scheduler, runner, kernels and a tiny random Llama together, against one request at a time."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from shoal.engine.core.config import CacheConfig
from shoal.engine.models.config import ModelConfig
from shoal.engine.models.llama import LlamaForCausalLM
from shoal.engine.models.paged_kv import LayerKV
from shoal.engine.models.rope import RopeConfig
from shoal.kernels.kv_cache_shape import kv_cache_shape
from shoal.kernels.paged_batch import PagedBatch
from tests.engine.runner.running_engine import RunningEngine

VOCAB = 97


def tiny_llama(*layer_windows: int | None) -> LlamaForCausalLM:
    config = ModelConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_layers=len(layer_windows),
        num_q_heads=4,
        num_kv_heads=2,
        head_dim=8,
        max_position_embeddings=128,
        rms_norm_eps=1e-5,
        rope=RopeConfig(),
        tie_word_embeddings=False,
        layer_windows=layer_windows,
    )
    model = LlamaForCausalLM(config).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        scale = 1.0 if parameter.ndim == 1 else 3.0 / parameter.shape[-1] ** 0.5
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    model.inverse_frequencies = torch.from_numpy(config.rope.inverse_frequencies(config.head_dim))
    return model


@torch.inference_mode()
def naive_greedy(model: LlamaForCausalLM, prompt: Sequence[int], num_tokens: int) -> list[int]:
    """The whole sequence is computed anew for every token: no cache to speak of, no batch."""
    tokens = list(prompt)
    for _ in range(num_tokens):
        block_size = len(tokens)
        config = model.config
        cache = CacheConfig(num_blocks=2, block_size=block_size, groups=config.kv_groups)
        shape = kv_cache_shape(2, block_size, config.num_kv_heads, config.head_dim)
        batches = [
            PagedBatch(
                query_lens=np.array([len(tokens)]),
                seq_lens=np.array([len(tokens)]),
                block_tables=torch.tensor([[1]], dtype=torch.int32),
                slot_mapping=torch.arange(block_size, 2 * block_size),
                block_size=block_size,
                sliding_window=group.sliding_window,
            )
            for group in cache.groups
        ]
        hidden = model(
            torch.tensor(tokens),
            torch.arange(len(tokens)),
            [LayerKV(torch.zeros(shape), torch.zeros(shape)) for _ in model.config.layer_group],
            batches,
        )
        tokens.append(int(model.compute_logits(hidden[-1:]).argmax()))
    return tokens[len(prompt) :]


@pytest.mark.parametrize(
    ("layer_windows", "num_blocks"),
    [((None, None), 33), ((7, 7), 24), ((None, 7, 7, None, 13), 80)],
    ids=["full", "window", "mixed"],
)
@pytest.mark.parametrize("seed", range(2))
def test_random_workloads_in_a_small_cache(
    layer_windows: tuple[int | None, ...], num_blocks: int, seed: int
) -> None:
    rng = random.Random(seed)
    model = tiny_llama(*layer_windows)
    engine = RunningEngine(model, num_blocks=num_blocks)
    stem = [rng.randrange(VOCAB) for _ in range(20)]
    expected = {}
    for i in range(16):
        own = [rng.randrange(VOCAB) for _ in range(rng.randint(1, 15))]
        prompt = stem[: rng.choice([0, 8, 13, 20])] + own
        num_tokens = rng.randint(1, 28)
        expected[f"r{i}"] = naive_greedy(model, prompt, num_tokens)
        engine.add(f"r{i}", prompt, max_tokens=num_tokens)
        for _ in range(rng.randint(0, 2)):
            engine.step()
    assert engine.run() == expected
    stats = engine.scheduler.make_stats()
    assert stats.prefix_cache_hits > 0
    assert stats.num_preemptions > 0 or None not in layer_windows  # a window never grows


def test_seeded_sampling_is_the_same_alone_and_in_a_crowd() -> None:
    rng = random.Random(1)
    model = tiny_llama(None, 7)
    params = {"max_tokens": 25, "temperature": 1.0}
    prompts = {
        f"r{i}": [rng.randrange(VOCAB) for _ in range(rng.randint(1, 20))] for i in range(12)
    }
    crowd = RunningEngine(model, num_blocks=60)
    for i, (request_id, prompt) in enumerate(prompts.items()):
        crowd.add(request_id, prompt, seed=i, **params)
    outputs = crowd.run()
    assert crowd.scheduler.make_stats().num_preemptions > 0
    for i, (request_id, prompt) in enumerate(prompts.items()):
        alone = RunningEngine(model, num_blocks=60)
        alone.add("alone", prompt, seed=i, **params)
        assert alone.run()["alone"] == outputs[request_id]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    """Rounding may turn a near tie, so only most requests have to match single precision."""
    rng = random.Random(2)
    exact, halved = tiny_llama(None, 7), tiny_llama(None, 7).to(dtype)
    prompts = {
        f"r{i}": [rng.randrange(VOCAB) for _ in range(rng.randint(1, 20))] for i in range(12)
    }
    engine = RunningEngine(halved, num_blocks=60, dtype=dtype)
    for request_id, prompt in prompts.items():
        engine.add(request_id, prompt, max_tokens=4)
    outputs = engine.run()
    same = [naive_greedy(exact, prompt, 4) == outputs[id_] for id_, prompt in prompts.items()]
    assert sum(same) >= 9
