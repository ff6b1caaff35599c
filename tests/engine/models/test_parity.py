"""Every family against `transformers` on tiny random configs: fp32 logits within 1e-4."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from shoal.engine.models.config import load_config
from shoal.engine.models.loader import load_model
from shoal.engine.sources.model_files import ModelFiles
from tests.engine.models.drive import CPU, logits_in_chunks

TINY = {
    "vocab_size": 101,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "pad_token_id": None,
}
LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip

FAMILIES: dict[str, tuple[type, type, dict[str, Any]]] = {
    "llama 2": (LlamaConfig, LlamaForCausalLM, {"num_key_value_heads": 4}),
    "llama 3": (LlamaConfig, LlamaForCausalLM, {"rope_parameters": LLAMA3_ROPE}),
    "linear rope": (
        LlamaConfig, LlamaForCausalLM,
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
    ),
    "smollm2": (LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": True}),
    "llama with biases": (
        LlamaConfig, LlamaForCausalLM, {"attention_bias": True, "mlp_bias": True},
    ),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": 7}),
    "mistral without window": (MistralConfig, MistralForCausalLM, {"sliding_window": None}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen2 with mixed layers": (
        Qwen2Config, Qwen2ForCausalLM,
        {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 16}),
}  # fmt: skip


def save_reference(name: str, folder: Path, *, sizes: Mapping[str, Any] = TINY, **save: Any) -> Any:
    """A random model of the family, also written to `folder`."""
    config_class, model_class, extra = FAMILIES[name]
    torch.manual_seed(0)
    model = model_class(config_class(**{**sizes, **extra})).eval()
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith(("bias", "norm.weight")):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)  # else zeros and ones hide mistakes
    model.save_pretrained(folder, **save)
    return model


def load(folder: Path) -> Any:
    files = ModelFiles(name="tiny", path=folder, format="hf", source=str(folder))
    return load_model(files, load_config(files), dtype=torch.float32, device=CPU)


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_equal_transformers(name: str, tmp_path: Path) -> None:
    reference = save_reference(name, tmp_path)
    model = load(tmp_path)
    token_ids = torch.randint(101, (43,), generator=torch.Generator().manual_seed(1)).tolist()
    with torch.inference_mode():
        expected = reference(torch.tensor([token_ids])).logits[0]
    assert expected.abs().max() > 0.5  # a comparison of zeros would prove nothing
    for chunks in ([43], [5, 1, 16, 21], [9] + [1] * 34, [1] * 43):
        logits = logits_in_chunks(model, token_ids, chunks)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_mixed_layers_make_two_kv_groups(tmp_path: Path) -> None:
    save_reference("qwen2 with mixed layers", tmp_path)
    config = load(tmp_path).config
    assert [group.sliding_window for group in config.kv_groups] == [None, 5]
    assert config.layer_group == (0, 1, 1)


def test_shards_are_put_together(tmp_path: Path) -> None:
    reference = save_reference("llama 3", tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    expected = reference(torch.tensor([[3, 1, 4, 1, 5]])).logits[0]
    logits = logits_in_chunks(load(tmp_path), [3, 1, 4, 1, 5], [5])
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_a_tied_head_is_the_embedding(tmp_path: Path) -> None:
    save_reference("smollm2", tmp_path)
    model = load(tmp_path)
    assert model.lm_head.weight is model.model.embed_tokens.weight


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_close(dtype: torch.dtype, tmp_path: Path) -> None:
    reference = save_reference("llama 3", tmp_path)
    files = ModelFiles(name="tiny", path=tmp_path, format="hf", source=str(tmp_path))
    model = load_model(files, load_config(files), dtype=dtype, device=CPU)
    assert model.model.layers[0].mlp.down_proj.weight.dtype == dtype
    with torch.inference_mode():
        expected = reference(torch.tensor([[3, 1, 4, 1, 5]])).logits[0]
    logits = logits_in_chunks(model, [3, 1, 4, 1, 5], [5], kv_dtype=dtype)
    assert logits.dtype == dtype
    # Half precision errs by its epsilon times the depth of the sums, not by the logits' size.
    assert (logits - expected).abs().max() < 30 * torch.finfo(dtype).eps * expected.abs().max()
