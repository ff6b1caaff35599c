"""Weights from a GGUF file, dequantized through the `gguf` package and renamed.

llama.cpp stores Q and K of the llama architecture with the two halves of each head interleaved,
for its own layout of RoPE; here the rows are put back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from torch import Tensor

from shoal.errors import UnsupportedModel

from ..sources.gguf_metadata import GGUFTensor, read_gguf_tensors
from .config import ModelConfig
from .weights import NamedTensor

ROPE_FREQS = "rope_freqs.weight"
"""Llama 3's scaling as factors by which the plain inverse frequencies are divided."""

_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_LAYER = re.compile(r"^blk\.(\d+)\.(\w+)\.(weight|bias)$")


def hf_name(name: str) -> str:
    """Hugging Face's name of a GGUF tensor. Raises UnsupportedModel when there is none."""
    if name in _TOP or name == ROPE_FREQS:
        return _TOP.get(name, name)
    match = _LAYER.match(name)
    if match is None or match[2] not in _IN_LAYER:
        raise UnsupportedModel(f"the GGUF file has a tensor {name!r} that Shoal does not know")
    return f"model.layers.{match[1]}.{_IN_LAYER[match[2]]}.{match[3]}"


def is_tied(path: Path) -> bool:
    """Whether the output projection is the embedding: then the file has no tensor for it."""
    return all(tensor.name != "output.weight" for tensor in read_gguf_tensors(path))


def rope_factors(path: Path) -> Tensor | None:
    """The [head_dim / 2] factors of a Llama 3 file, None in others."""
    for tensor in read_gguf_tensors(path):
        if tensor.name == ROPE_FREQS:
            return _read(np.memmap(path, dtype=np.uint8, mode="r"), tensor)
    return None


def tensors(path: Path, config: ModelConfig, *, permuted: bool) -> Iterator[NamedTensor]:
    """Tensor by tensor, dequantized to fp32; `permuted`: Q and K are in llama.cpp's order."""
    data = np.memmap(path, dtype=np.uint8, mode="r")
    for info in read_gguf_tensors(path):
        name, tensor = hf_name(info.name), _read(data, info)
        if permuted and ".q_proj." in name:
            tensor = _unpermute(tensor, config.num_q_heads)
        elif permuted and ".k_proj." in name:
            tensor = _unpermute(tensor, config.num_kv_heads)
        yield name, tensor


def _read(data: np.memmap, info: GGUFTensor) -> Tensor:
    try:
        kind = GGMLQuantizationType(info.type_id)
        block_size, type_size = GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError):
        raise UnsupportedModel(f"tensor {info.name!r} has unknown type {info.type_id}") from None
    row_bytes = info.shape[-1] // block_size * type_size
    num_rows = int(np.prod(info.shape[:-1], dtype=np.int64))
    raw = data[info.offset : info.offset + num_rows * row_bytes]
    if raw.size != num_rows * row_bytes:
        raise UnsupportedModel(f"tensor {info.name!r} ends past the file: it is cut off")
    try:
        values = dequantize(raw.reshape(num_rows, row_bytes), kind)
    except NotImplementedError:
        raise UnsupportedModel(
            f"tensor {info.name!r} is {kind.name}, which the gguf package cannot dequantize"
        ) from None
    return torch.from_numpy(np.require(values, np.float32, ["C", "W"])).view(info.shape)


def _unpermute(rows: Tensor, num_heads: int) -> Tensor:
    """Undo llama.cpp's interleaving: [heads, dim/2, 2, ...] back to [heads, 2, dim/2, ...]."""
    pairs = rows.view(num_heads, -1, 2, *rows.shape[1:])
    return pairs.transpose(1, 2).reshape(rows.shape)
