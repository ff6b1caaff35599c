"""The shape of a model, the same whether it was read from config.json or from GGUF metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from shoal.errors import UnsupportedModel

from ..core.config import KVCacheGroup
from ..sources.gguf_metadata import read_gguf_metadata
from ..sources.model_files import ModelFiles
from .families import family_of_gguf, family_of_hf
from .rope import RopeConfig


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A dense decoder of the Llama family."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_q_heads: int
    num_kv_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope: RopeConfig
    tie_word_embeddings: bool
    qkv_bias: bool = False
    output_bias: bool = False
    """Bias of the attention's output projection."""
    mlp_bias: bool = False
    qk_norm: bool = False
    """RMSNorm on each head's queries and keys before RoPE (Qwen3)."""
    layer_windows: tuple[int | None, ...] = ()
    """Sliding window of each layer in tokens, None for full attention; empty: all full."""

    def __post_init__(self) -> None:
        if self.layer_windows and len(self.layer_windows) != self.num_layers:
            raise UnsupportedModel(
                f"{len(self.layer_windows)} layers have a window setting, of {self.num_layers}"
            )
        if not isinstance(self.rms_norm_eps, float) or self.rms_norm_eps <= 0:
            raise UnsupportedModel(
                f"the epsilon of RMSNorm is {self.rms_norm_eps!r}, expected a positive float"
            )
        if self.head_dim % 2:
            raise UnsupportedModel(f"head_dim {self.head_dim} is odd; RoPE rotates pairs")
        if self.num_q_heads % self.num_kv_heads:
            raise UnsupportedModel(
                f"{self.num_q_heads} query heads do not divide among {self.num_kv_heads} KV heads"
            )

    @cached_property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer."""
        return self.layer_windows or (None,) * self.num_layers

    @cached_property
    def kv_groups(self) -> tuple[KVCacheGroup, ...]:
        """One KV cache group per distinct window, in order of first use."""
        return tuple(KVCacheGroup(sliding_window=window) for window in dict.fromkeys(self.windows))

    @cached_property
    def layer_group(self) -> tuple[int, ...]:
        """Index into `kv_groups` of each layer."""
        index = {group.sliding_window: i for i, group in enumerate(self.kv_groups)}
        return tuple(index[window] for window in self.windows)


def load_config(files: ModelFiles) -> ModelConfig:
    """Read the shape of a model. Raises UnsupportedModel naming what Shoal does not have."""
    if files.format == "gguf":
        return config_from_gguf(read_gguf_metadata(files.path))
    path = files.path / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnsupportedModel(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise UnsupportedModel(f"{path} holds a {type(config).__name__}, expected an object")
    return config_from_hf(config)


def config_from_hf(config: dict[str, Any]) -> ModelConfig:
    """From the fields of a Hugging Face config.json, old (`rope_scaling`) or new."""
    family = family_of_hf(config)

    def size(field: str, default: int | None = None) -> int:
        value = config.get(field)
        return _positive_int(default if value is None else value, f"config.json's {field!r}")

    num_layers, num_heads = size("num_hidden_layers"), size("num_attention_heads")
    return ModelConfig(
        vocab_size=size("vocab_size"),
        hidden_size=size("hidden_size"),
        intermediate_size=size("intermediate_size"),
        num_layers=num_layers,
        num_q_heads=num_heads,
        num_kv_heads=size("num_key_value_heads", num_heads),
        head_dim=size("head_dim", size("hidden_size") // num_heads),
        max_position_embeddings=size("max_position_embeddings"),
        rms_norm_eps=config.get("rms_norm_eps", 1e-6),
        rope=RopeConfig.from_hf(config),
        tie_word_embeddings=config.get("tie_word_embeddings", False),
        qkv_bias=config.get("attention_bias", family.qkv_bias),
        output_bias=config.get("attention_bias", False),
        mlp_bias=config.get("mlp_bias", False),
        qk_norm=family.qk_norm,
        layer_windows=family.windows(config, num_layers),
    )


def config_from_gguf(metadata: dict[str, Any]) -> ModelConfig:
    """From GGUF metadata, whose keys start with the architecture's name."""
    family = family_of_gguf(metadata)
    arch = metadata["general.architecture"]

    def size(key: str, default: int | None = None) -> int:
        value = metadata.get(f"{arch}.{key}", default)
        return _positive_int(value, f"the GGUF file's metadata {arch}.{key}")

    num_layers, num_heads = size("block_count"), size("attention.head_count")
    head_dim = size("attention.key_length", size("embedding_length") // num_heads)
    if (rotated := size("rope.dimension_count", head_dim)) != head_dim:
        raise UnsupportedModel(f"RoPE over {rotated} of {head_dim} dimensions is not supported")
    window = metadata.get(f"{arch}.attention.sliding_window") or None
    tokens = metadata.get("tokenizer.ggml.tokens", ())
    return ModelConfig(
        vocab_size=size("vocab_size", len(tokens) or None),
        hidden_size=size("embedding_length"),
        intermediate_size=size("feed_forward_length"),
        num_layers=num_layers,
        num_q_heads=num_heads,
        num_kv_heads=size("attention.head_count_kv", num_heads),
        head_dim=head_dim,
        max_position_embeddings=size("context_length"),
        rms_norm_eps=metadata.get(f"{arch}.attention.layer_norm_rms_epsilon", 0.0),
        rope=RopeConfig.from_gguf(metadata, arch),
        # A GGUF file has no field for it: tied models have no output.weight (see `gguf_weights`).
        tie_word_embeddings=False,
        qkv_bias=family.qkv_bias,
        qk_norm=family.qk_norm,
        layer_windows=(window,) * num_layers if window else (),
    )


def _positive_int(value: Any, what: str) -> int:
    if value is None:
        raise UnsupportedModel(f"{what} is missing")
    if not isinstance(value, int) or value <= 0:
        raise UnsupportedModel(f"{what} is {value!r}, expected a positive integer")
    return value
