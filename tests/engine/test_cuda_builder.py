"""What building a GPU engine refuses; what it builds is tested on a GPU (tests/engine/gpu)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from shoal.engine import cuda_builder
from shoal.engine.config import EngineConfig
from shoal.engine.cuda_builder import load_weights
from shoal.engine.models.config import ModelConfig
from shoal.engine.models.rope import RopeConfig
from shoal.engine.sources.model_files import ModelFiles
from shoal.engine.sources.progress import NoProgress
from shoal.errors import ConfigError

GIB = 1 << 30
MODEL = ModelConfig(
    vocab_size=97,
    hidden_size=32,
    intermediate_size=48,
    num_layers=1,
    num_q_heads=4,
    num_kv_heads=2,
    head_dim=8,
    max_position_embeddings=128,
    rms_norm_eps=1e-5,
    rope=RopeConfig(),
    tie_word_embeddings=True,
)


def test_weights_that_do_not_fit_are_refused_with_the_numbers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(cuda_builder, "dummy_model", full)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (GIB // 2, 24 * GIB))
    with pytest.raises(ConfigError, match=r"24\.0 GiB, of which 0\.5 were free.*smaller model"):
        load_weights(
            EngineConfig(model="m", load_format="dummy", device="cuda"),
            ModelFiles("m", tmp_path, "hf", "m"),
            MODEL,
            dtype=torch.bfloat16,
            device=torch.device("cuda"),
            progress=NoProgress(),
        )
