"""Model shapes from config.json and GGUF metadata, and refusals that name what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from shoal.engine.models.config import config_from_gguf, config_from_hf, load_config
from shoal.engine.models.loader import load_model
from shoal.engine.models.rope import RopeConfig
from shoal.engine.sources.model_files import ModelFiles
from shoal.errors import ModelNotFound, UnsupportedModel
from tests.engine.models.drive import CPU
from tests.engine.models.test_parity import save_reference

HF: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "vocab_size": 100, "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
}  # fmt: skip
GGUF: dict[str, Any] = {
    "general.architecture": "llama", "llama.block_count": 2, "llama.context_length": 512,
    "llama.embedding_length": 64, "llama.feed_forward_length": 128,
    "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.vocab_size": 100,
}  # fmt: skip


def test_both_sources_give_the_same_shape() -> None:
    assert config_from_hf(HF) == config_from_gguf(GGUF)
    assert config_from_hf(HF).head_dim == 16


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        {"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}},
    ],
)
def test_rope_is_read_in_its_old_and_new_forms(fields: dict[str, Any]) -> None:
    rope = config_from_hf(HF | fields).rope
    assert rope == RopeConfig(theta=5e5, kind="linear", factor=2.0)


def test_windows_of_qwen2_start_at_max_window_layers() -> None:
    fields = {
        "architectures": ["Qwen2ForCausalLM"], "sliding_window": 9, "max_window_layers": 1,
        "use_sliding_window": True,
    }  # fmt: skip
    assert config_from_hf(HF | fields).windows == (None, 9)
    off = fields | {"use_sliding_window": False}
    assert config_from_hf(HF | off).windows == (None, None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "'MambaForCausalLM' is not supported; supported:"
         " LlamaForCausalLM"),
        ({"architectures": None}, "none named"),
        ({"hidden_act": "gelu"}, "activation 'gelu' is not supported; supported: silu"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "'yarn' is not supported; supported: default,"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor 0.5"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantized with 'awq'"),
        ({"rope_scaling": "linear"}, "RoPE parameters are 'linear', expected an object"),
        ({"rope_scaling": {"rope_type": "linear"}}, "RoPE scaling 'linear' lacks factor"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "RoPE factor is 0"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "lacks low_freq_factor, high"),
        ({"rope_theta": "10000"}, "RoPE theta is '10000'"),
        ({"rms_norm_eps": "tiny"}, "epsilon of RMSNorm is 'tiny'"),
        ({"head_dim": 7}, "head_dim 7 is odd"),
        ({"num_attention_heads": 0}, "'num_attention_heads' is 0, expected a positive integer"),
        ({"num_key_value_heads": -2}, "'num_key_value_heads' is -2"),
        ({"hidden_size": "64"}, "'hidden_size' is '64'"),
        ({"vocab_size": [100]}, "'vocab_size' is [100]"),
        ({"num_hidden_layers": 2.5}, "'num_hidden_layers' is 2.5"),
        ({"max_position_embeddings": None}, "'max_position_embeddings' is missing"),
        ({"num_key_value_heads": 3}, "4 query heads do not divide among 3"),
        ({"architectures": ["Qwen2ForCausalLM"], "use_sliding_window": True, "sliding_window": 4,
          "layer_types": ["mamba", "full_attention"]}, "unknown layer types"),
        ({"architectures": ["Qwen2ForCausalLM"], "use_sliding_window": True, "sliding_window": 4,
          "layer_types": ["full_attention"]}, "1 layers have a window setting, of 2"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        config_from_hf(HF | fields)
    assert message in str(caught.value)


def test_null_fields_take_their_defaults() -> None:
    nulls = {"num_key_value_heads": None, "head_dim": None, "quantization_config": None}
    config = config_from_hf(HF | nulls)
    assert (config.num_kv_heads, config.head_dim) == (4, 16)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(UnsupportedModel, match=r"config\.json's 'vocab_size' is missing"):
        config_from_hf({key: value for key, value in HF.items() if key != "vocab_size"})
    with pytest.raises(UnsupportedModel, match=r"metadata llama\.block_count is missing"):
        config_from_gguf({k: v for k, v in GGUF.items() if k != "llama.block_count"})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"general.architecture": "mamba"}, "'mamba' is not supported; supported: llama"),
        ({"llama.expert_count": 8}, "8 experts"),
        ({"llama.rope.scaling.type": "yarn"}, "'yarn' is not supported"),
        ({"llama.rope.dimension_count": 8}, "RoPE over 8 of 16 dimensions"),
        ({"llama.attention.head_count": [4, 4]}, "llama.attention.head_count is [4, 4]"),
        ({"llama.attention.head_count_kv": 0}, "llama.attention.head_count_kv is 0"),
        ({"llama.attention.layer_norm_rms_epsilon": "x"}, "epsilon of RMSNorm is 'x'"),
        ({"general.architecture": ["llama"]}, "is not supported; supported: llama"),
    ],
)
def test_gguf_refusals(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        config_from_gguf(GGUF | fields)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "is not JSON"), (b"{", "is not JSON"), (b"\xff", "is not JSON"), (b"[]", "a list")],
)
def test_a_config_that_is_no_object_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(UnsupportedModel, match=message):
        load(tmp_path)


def load(folder: Path) -> Any:
    files = ModelFiles(name="tiny", path=folder, format="hf", source=str(folder))
    return load_model(files, load_config(files), dtype=torch.float32, device=CPU)


def test_tensors_of_another_shape_are_named(tmp_path: Path) -> None:
    save_reference("llama 2", tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"intermediate_size": 40}))
    with pytest.raises(UnsupportedModel, match=r"has shape \[.*\], expected \["):
        load(tmp_path)


def test_tensors_the_model_has_not_are_named(tmp_path: Path) -> None:
    save_reference("llama with biases", tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"attention_bias": False}))
    with pytest.raises(UnsupportedModel, match=r"bias' that this model has not"):
        load(tmp_path)


def test_missing_shards_are_named(tmp_path: Path) -> None:
    save_reference("llama 2", tmp_path, max_shard_size="20KB")
    gone = sorted(tmp_path.glob("*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(ModelNotFound, match=gone.name):
        load(tmp_path)


def test_an_index_that_points_outside_its_folder_is_refused(tmp_path: Path) -> None:
    save_reference("llama 2", tmp_path, max_shard_size="20KB")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    with pytest.raises(UnsupportedModel, match="outside its folder"):
        load(tmp_path)


def test_files_beside_the_whole_model_are_not_read(tmp_path: Path) -> None:
    save_reference("llama 2", tmp_path)
    (tmp_path / "consolidated.safetensors").write_bytes(b"the same weights by other names")
    load(tmp_path)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    save_reference("llama 2", tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 4}))
    with pytest.raises(UnsupportedModel, match=r"lacks model\.layers\.3\..* and 4 more"):
        load(tmp_path)


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"weight_map": []}'])
def test_a_broken_shard_index_is_refused(tmp_path: Path, text: str) -> None:
    save_reference("llama 2", tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(UnsupportedModel, match="has no map of tensors to files"):
        load(tmp_path)


def test_weights_of_integers_are_refused(tmp_path: Path) -> None:
    save_reference("llama 2", tmp_path)
    path, name = tmp_path / "model.safetensors", "model.norm.weight"
    weights = load_file(path)
    save_file(weights | {name: weights[name].to(torch.int8)}, path)
    with pytest.raises(UnsupportedModel, match=r"'model\.norm\.weight' holds torch\.int8"):
        load(tmp_path)


def test_a_broken_safetensors_file_is_refused(tmp_path: Path) -> None:
    save_reference("llama 2", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not a header at all")
    with pytest.raises(UnsupportedModel, match="not a usable safetensors file"):
        load(tmp_path)


def test_loading_reports_progress_to_the_last_tensor(tmp_path: Path) -> None:
    save_reference("llama 2", tmp_path)
    seen: list[tuple[str, int, int | None]] = []

    class Record:
        def update(self, stage: str, done: int, total: int | None) -> None:
            seen.append((stage, done, total))

    files = ModelFiles(name="tiny", path=tmp_path, format="hf", source=str(tmp_path))
    load_model(files, load_config(files), dtype=torch.float32, device=CPU, progress=Record())
    assert seen[-1][1] == seen[-1][2] == len(seen)
