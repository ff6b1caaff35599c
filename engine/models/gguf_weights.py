"""Weights from a GGUF file, dequantized through the `gguf` package and renamed.

llama.cpp stores Q and K of the llama architecture with the two halves of each head interleaved,
for its own layout of RoPE; here the rows are put back.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray
from torch import Tensor

from shoal.errors import UnsupportedModel
from shoal.kernels.cpu.packed import Codes, Packer

from ..sources.gguf_metadata import GGUFTensor, read_gguf_tensors
from .config import ModelConfig
from .weights import NamedTensor

ROPE_FREQS = "rope_freqs.weight"
"""Llama 3's scaling as factors by which the plain inverse frequencies are divided."""

T = TypeVar("T")

READ_AHEAD = 3
"""Dequantized tensors in memory beside the one that is being copied."""

_FLOATS = frozenset({GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16})
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


class GGUFWeights:
    """The tensors of one file; the table is read once, the values when they are asked for."""

    def __init__(self, path: Path) -> None:
        self._table = {tensor.name: tensor for tensor in read_gguf_tensors(path)}
        self._data = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))

    def __len__(self) -> int:
        return len(self._table)

    @property
    def is_tied(self) -> bool:
        """Whether the output projection is the embedding: then there is no tensor for it."""
        return "output.weight" not in self._table

    def rope_factors(self) -> Tensor | None:
        """The [head_dim / 2] factors of a Llama 3 file, None in others."""
        info = self._table.get(ROPE_FREQS)
        return None if info is None else read_tensor(self._data, info)

    def tensors(self, config: ModelConfig, *, permuted: bool) -> Iterator[NamedTensor]:
        """Tensor by tensor, dequantized to fp32; `permuted`: Q and K are in llama.cpp's order."""

        def load(info: GGUFTensor) -> NamedTensor:
            name, tensor = hf_name(info.name), read_tensor(self._data, info)
            order = _row_order(name, info, config) if permuted else None
            return name, tensor if order is None else tensor[torch.from_numpy(order)]

        return self._read_ahead(load)

    def coded_tensors(
        self, config: ModelConfig, packer: Packer, *, permuted: bool
    ) -> Iterator[tuple[str, Codes | Tensor]]:
        """As `tensors`, but matrices that are quantized in the file come as codes."""

        def load(info: GGUFTensor) -> tuple[str, Codes | Tensor]:
            name, weight = hf_name(info.name), read_codes(self._data, info, packer)
            order = _row_order(name, info, config) if permuted else None
            if order is None:
                return name, weight
            if isinstance(weight, Codes):
                return name, weight.take(order)
            return name, weight[torch.from_numpy(order)]

        return self._read_ahead(load)

    def _read_ahead(self, load: Callable[[GGUFTensor], T]) -> Iterator[T]:
        """Two threads work ahead by a few tensors: dequantizing is much of the time of a start."""
        with ThreadPoolExecutor(max_workers=2) as pool:
            ahead: deque[Future[T]] = deque()
            for info in self._table.values():
                ahead.append(pool.submit(load, info))
                if len(ahead) > READ_AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()


def read_tensor(data: np.ndarray, info: GGUFTensor) -> Tensor:
    """Dequantize one tensor of a mapped file to fp32. Raises UnsupportedModel naming it."""
    kind, raw = _raw_blocks(data, info)
    try:
        # As one long row: `dequantize` works through 16 rows at a time, and blocks do not care.
        values = dequantize(raw.reshape(1, raw.size), kind)
    except NotImplementedError:
        raise UnsupportedModel(
            f"tensor {info.name!r} is {kind.name}, which the gguf package cannot dequantize"
        ) from None
    return torch.from_numpy(np.require(values, np.float32, ["C", "W"])).view(info.shape)


def read_codes(data: np.ndarray, info: GGUFTensor, packer: Packer) -> Codes | Tensor:
    """A quantized matrix as codes: its own, or 8-bit ones; anything else as `read_tensor`."""
    kind, raw = _raw_blocks(data, info)
    if len(info.shape) != 2 or kind in _FLOATS:
        return read_tensor(data, info)
    codes = packer.gguf_codes(info.type_id, raw, (info.shape[0], info.shape[1]))
    return packer.quantize(read_tensor(data, info).numpy()) if codes is None else codes


def _raw_blocks(data: np.ndarray, info: GGUFTensor) -> tuple[GGMLQuantizationType, np.ndarray]:
    """A tensor's type and bytes."""
    try:
        kind = GGMLQuantizationType(info.type_id)
        block_size, type_size = GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError):
        raise UnsupportedModel(f"tensor {info.name!r} has unknown type {info.type_id}") from None
    if 0 in info.shape or not info.shape or info.shape[-1] % block_size:
        raise UnsupportedModel(
            f"tensor {info.name!r} has shape {list(info.shape)}, whose rows are not whole"
            f" {kind.name} blocks of {block_size}"
        )
    num_bytes = prod(info.shape) // block_size * type_size
    raw = data[info.offset : info.offset + num_bytes]
    if raw.size != num_bytes:
        raise UnsupportedModel(f"tensor {info.name!r} ends past the file: it is cut off")
    return kind, raw


def _row_order(name: str, info: GGUFTensor, config: ModelConfig) -> NDArray[np.intp] | None:
    """Rows of Q and K in our order: [heads, dim/2, 2] back to [heads, 2, dim/2]."""
    if ".q_proj." in name:
        num_heads = config.num_q_heads
    elif ".k_proj." in name:
        num_heads = config.num_kv_heads
    else:
        return None
    if info.shape[0] % (2 * num_heads):
        return None  # of the wrong shape, as whoever takes it in will say
    return np.arange(info.shape[0]).reshape(num_heads, -1, 2).swapaxes(1, 2).reshape(-1)
