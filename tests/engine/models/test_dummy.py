"""Random weights: of a sane scale, the same in every process, for every family."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from shoal.engine.models.config import ModelConfig
from shoal.engine.models.loader import dummy_model
from shoal.engine.models.rope import RopeConfig
from tests.engine.models.drive import CPU, logits_in_chunks

CONFIG = ModelConfig(
    vocab_size=503,
    hidden_size=64,
    intermediate_size=160,
    num_layers=6,
    num_q_heads=4,
    num_kv_heads=2,
    head_dim=16,
    max_position_embeddings=128,
    rms_norm_eps=1e-5,
    rope=RopeConfig(),
    tie_word_embeddings=False,
)
TOKENS = [3, 141, 59, 26, 5, 35, 8, 97]
VARIANTS = {
    "llama": {},
    "tied": {"tie_word_embeddings": True},
    "biases": {"qkv_bias": True, "output_bias": True, "mlp_bias": True},
    "qk-norm and windows": {"qk_norm": True, "layer_windows": (None, 4, 4, None, 4, 4)},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_finite_and_spread_by_about_one(variant: str) -> None:
    config = replace(CONFIG, **VARIANTS[variant])
    model = dummy_model(config, dtype=torch.float32, device=CPU)
    logits = logits_in_chunks(model, TOKENS, [5, 3])
    assert logits.isfinite().all()
    assert 0.3 < logits.std() < 3.0
    assert len(set(logits.argmax(dim=1).tolist())) > 1


def test_every_process_draws_the_same() -> None:
    first, second = (dummy_model(CONFIG, dtype=torch.float32, device=CPU) for _ in range(2))
    for (name, a), (_, b) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_activations_do_not_grow_from_layer_to_layer() -> None:
    deep = replace(CONFIG, num_layers=48)
    logits = logits_in_chunks(dummy_model(deep, dtype=torch.bfloat16, device=CPU), TOKENS, [8],
                              kv_dtype=torch.bfloat16)  # fmt: skip
    assert logits.isfinite().all()
    assert 0.3 < logits.float().std() < 3.0
