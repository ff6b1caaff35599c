"""The shape of Llama-3.1-8B (Grattafiori et al., 2024), and what a step of it must move."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shoal.engine.models.config import ModelConfig
from shoal.engine.sources.model_files import ModelFiles

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000.0,
    "tie_word_embeddings": False,
}

BF16 = 2


def model_files(folder: Path) -> ModelFiles:
    """A folder with nothing but the configuration: weights will be random."""
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return ModelFiles("llama-8b-shape", folder, "hf", str(folder))


def read_weight_bytes(model: ModelConfig) -> int:
    """Weights that a step reads: all but the embedding, of which it reads a row a token."""
    q_dim, kv_dim = model.num_q_heads * model.head_dim, model.num_kv_heads * model.head_dim
    attention = model.hidden_size * (2 * q_dim + 2 * kv_dim)
    mlp = 3 * model.hidden_size * model.intermediate_size
    head = model.hidden_size * model.vocab_size
    return (model.num_layers * (attention + mlp) + head) * BF16


def kv_token_bytes(model: ModelConfig) -> int:
    """Keys and values of one token in all layers: 131,072 here."""
    return 2 * model.num_layers * model.num_kv_heads * model.head_dim * BF16
