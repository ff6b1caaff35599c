"""From a checkpoint's tensors to the packed matrices of the native kernels, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shoal.kernels.cpu.packed import GROUP, Codes, PackedMatrix, Packer, concatenate

from .checkpoint import is_ignored, missing_tensors, not_floats, unknown_tensor, wrong_shape
from .config import ModelConfig
from .native_llama import NativeLayer, NativeWeights

Floats = NDArray[np.float32]
Weight = Codes | NDArray[Any]
"""A matrix, or a norm or bias; floats of any dtype."""

Precision = Literal["checkpoint", "bfloat16", "int8"]
"""What matrices become: "checkpoint" keeps quantized ones as they are and makes the others bf16;
"int8" quantizes those others to 8 bits."""


def weight_precision(dtype: str, quantization: str | None) -> Precision:
    """What the settings `dtype` ("auto", "bfloat16") and `quantization` (None, "int8") ask for."""
    if quantization == "int8":
        return "int8"
    return "bfloat16" if dtype == "bfloat16" else "checkpoint"


_FLOAT_KINDS = "fV"  # "V" is what numpy says of bfloat16
_IN_LAYER = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "output": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}


class NativeLoader:
    """Collects tensors by their Hugging Face names and packs each matrix when it is complete.

    Raises UnsupportedModel naming tensors that are missing, unknown, or of the wrong shape.
    """

    def __init__(self, config: ModelConfig, packer: Packer, precision: Precision) -> None:
        self._config = config
        self._packer = packer
        self._precision = precision
        self._expected = _shapes(config)
        self._parts: dict[str, Weight] = {}
        self._packed: dict[str, PackedMatrix] = {}

    def load(self, tensors: Iterable[tuple[str, Weight]]) -> Iterator[str]:
        """Take in every tensor, yielding names as they are done."""
        for name, tensor in tensors:
            shape = self._expected.pop(name, None)
            if shape is None:
                if is_ignored(name, self._config):
                    continue
                raise unknown_tensor(name)
            if tensor.shape != shape:
                raise wrong_shape(name, tensor.shape, expected=shape)
            if isinstance(tensor, np.ndarray) and tensor.dtype.kind not in _FLOAT_KINDS:
                raise not_floats(name, tensor.dtype)
            self._parts[name] = tensor
            self._pack_complete(name)
            yield name

    def finish(self, inverse_frequencies: Floats) -> NativeWeights:
        """The weights, when every tensor has come."""
        if self._expected:
            raise missing_tensors(self._expected)
        embedding = self._packed["model.embed_tokens"]
        return NativeWeights(
            embedding=embedding,
            lm_head=self._packed.get("lm_head", embedding),
            layers=[self._layer(f"model.layers.{i}.") for i in range(self._config.num_layers)],
            final_norm=self._vector("model.norm.weight"),
            inverse_frequencies=np.ascontiguousarray(inverse_frequencies, np.float32),
        )

    def _layer(self, prefix: str) -> NativeLayer:
        has_norms = self._config.qk_norm
        return NativeLayer(
            **{name: self._packed[prefix + name] for name in _IN_LAYER},
            input_norm=self._vector(prefix + "input_layernorm.weight"),
            post_attention_norm=self._vector(prefix + "post_attention_layernorm.weight"),
            query_norm=self._vector(prefix + "self_attn.q_norm.weight") if has_norms else None,
            key_norm=self._vector(prefix + "self_attn.k_norm.weight") if has_norms else None,
        )

    def _vector(self, name: str) -> Floats:
        return _to_floats(self._parts.pop(name))

    def _pack_complete(self, name: str) -> None:
        """Pack the matrix that `name` belongs to, if this was the last of its tensors."""
        if name in ("model.embed_tokens.weight", "lm_head.weight"):
            self._packed[name.removesuffix(".weight")] = self._packer.pack(
                self._matrix([self._parts.pop(name)])
            )
            return
        prefix, _, _ = name.partition("self_attn." if "self_attn." in name else "mlp.")
        for packed, modules in _IN_LAYER.items():
            if not any(name.startswith(f"{prefix}{module}.") for module in modules):
                continue
            wanted = [prefix + module for module in modules]
            kinds = ["weight"] if self._bias(packed) is False else ["weight", "bias"]
            names = [f"{module}.{kind}" for kind in kinds for module in wanted]
            if all(part in self._parts for part in names):
                weights = [self._parts.pop(f"{module}.weight") for module in wanted]
                biases = [self._parts.pop(f"{module}.bias") for module in wanted if len(kinds) > 1]
                self._packed[prefix + packed] = self._pack(packed, weights, biases)

    def _bias(self, packed: str) -> bool:
        config = self._config
        return {"qkv": config.qkv_bias, "output": config.output_bias}.get(packed, config.mlp_bias)

    def _pack(self, packed: str, weights: list[Weight], biases: list[Weight]) -> PackedMatrix:
        matrix = self._matrix(weights)
        bias = np.concatenate([_to_floats(part) for part in biases]) if biases else None
        if packed == "gate_up":
            matrix, bias = _interleave(matrix, bias)
        return self._packer.pack(matrix, bias)

    def _matrix(self, parts: list[Weight]) -> Codes | Floats:
        """The parts below each other, as codes or as floats."""
        if self._precision != "bfloat16" and any(isinstance(part, Codes) for part in parts):
            return concatenate([self._codes(part) for part in parts])
        floats = np.concatenate([_to_floats(part) for part in parts])
        return self._packer.quantize(floats) if self._precision == "int8" else floats

    def _codes(self, part: Weight) -> Codes:
        return part if isinstance(part, Codes) else self._packer.quantize(_to_floats(part))


def _interleave(
    matrix: Codes | Floats, bias: Floats | None
) -> tuple[Codes | Floats, Floats | None]:
    """[gate; up] to 32 rows of each in turns, padded with rows of zeros to whole turns."""
    inner = matrix.shape[0] // 2
    turns = -(-inner // GROUP)
    gate = np.arange(turns * GROUP).reshape(turns, GROUP)
    gate[gate >= inner] = -1
    order = np.stack([gate, np.where(gate < 0, -1, gate + inner)], axis=1).reshape(-1)
    padding = order < 0
    if bias is not None:
        bias = bias[order]
        bias[padding] = 0
    if isinstance(matrix, Codes):
        codes = matrix.take(order)
        codes.scales[padding] = codes.minima[padding] = 0
        return codes, bias
    floats = matrix[order]
    floats[padding] = 0
    return floats, bias


def _to_floats(weight: Weight) -> Floats:
    return weight.floats() if isinstance(weight, Codes) else weight.astype(np.float32, copy=False)


def _shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor that a checkpoint of this shape has."""
    hidden, inner = config.hidden_size, config.intermediate_size
    q_rows, kv_rows = config.num_q_heads * config.head_dim, config.num_kv_heads * config.head_dim
    matrices = {
        "self_attn.q_proj": (q_rows, hidden, config.qkv_bias),
        "self_attn.k_proj": (kv_rows, hidden, config.qkv_bias),
        "self_attn.v_proj": (kv_rows, hidden, config.qkv_bias),
        "self_attn.o_proj": (hidden, q_rows, config.output_bias),
        "mlp.gate_proj": (inner, hidden, config.mlp_bias),
        "mlp.up_proj": (inner, hidden, config.mlp_bias),
        "mlp.down_proj": (hidden, inner, config.mlp_bias),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config.vocab_size, hidden),
        "model.norm.weight": (hidden,),
    }
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, hidden)
    for i in range(config.num_layers):
        prefix = f"model.layers.{i}."
        for name, (rows, columns, has_bias) in matrices.items():
            shapes[f"{prefix}{name}.weight"] = (rows, columns)
            if has_bias:
                shapes[f"{prefix}{name}.bias"] = (rows,)
        shapes[prefix + "input_layernorm.weight"] = (hidden,)
        shapes[prefix + "post_attention_layernorm.weight"] = (hidden,)
        if config.qk_norm:
            shapes[prefix + "self_attn.q_norm.weight"] = (config.head_dim,)
            shapes[prefix + "self_attn.k_norm.weight"] = (config.head_dim,)
    return shapes
