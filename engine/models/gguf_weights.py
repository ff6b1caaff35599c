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
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from shoal.errors import UnsupportedModel
from shoal.kernels.cpu.packed import Codes, Packer

from ..sources.gguf_metadata import GGUFTensor, read_gguf_header
from .checkpoint import NamedArray
from .config import ModelConfig

ROPE_FREQS = "rope_freqs.weight"

T = TypeVar("T")
Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

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
        metadata, tensors = read_gguf_header(path)
        self._table = {tensor.name: tensor for tensor in tensors}
        self._data = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
        self._is_permuted = metadata["general.architecture"] == "llama"
        """Whether Q and K are in llama.cpp's order."""

    def __len__(self) -> int:
        return len(self._table)

    @property
    def is_tied(self) -> bool:
        """Whether the output projection is the embedding: then there is no tensor for it."""
        return "output.weight" not in self._table

    def inverse_frequencies(self, plain: Floats) -> Floats:
        """RoPE's frequencies: a Llama 3 file has the factors by which the plain ones are divided.

        Raises UnsupportedModel when there are not as many as frequencies.
        """
        info = self._table.get(ROPE_FREQS)
        if info is None:
            return plain
        factors = read_floats(self._data, info)
        if factors.shape != plain.shape:
            raise UnsupportedModel(
                f"{ROPE_FREQS} has shape {list(factors.shape)}, expected"
                f" {list(plain.shape)}: half of each head's dimensions"
            )
        return plain / factors

    def arrays(self, config: ModelConfig) -> Iterator[NamedArray]:
        """Tensor by tensor, dequantized to fp32."""

        def load(info: GGUFTensor) -> NamedArray:
            name, floats = hf_name(info.name), read_floats(self._data, info)
            order = self._row_order(name, info, config)
            return name, floats if order is None else floats[order]

        return self._read_ahead(load)

    def codes(self, config: ModelConfig, packer: Packer) -> Iterator[tuple[str, Codes | Floats]]:
        """As `arrays`, but matrices that are quantized in the file come as codes."""

        def load(info: GGUFTensor) -> tuple[str, Codes | Floats]:
            name, weight = hf_name(info.name), read_codes(self._data, info, packer)
            order = self._row_order(name, info, config)
            if order is None:
                return name, weight
            return name, weight.take(order) if isinstance(weight, Codes) else weight[order]

        return self._read_ahead(load)

    def _row_order(
        self, name: str, info: GGUFTensor, config: ModelConfig
    ) -> NDArray[np.intp] | None:
        """Rows of Q and K in our order: [heads, dim/2, 2] back to [heads, 2, dim/2]."""
        if not self._is_permuted or not (".q_proj." in name or ".k_proj." in name):
            return None
        num_heads = config.num_q_heads if ".q_proj." in name else config.num_kv_heads
        if info.shape[0] % (2 * num_heads):
            return None  # of the wrong shape, as whoever takes it in will say
        return np.arange(info.shape[0]).reshape(num_heads, -1, 2).swapaxes(1, 2).reshape(-1)

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


def read_floats(data: Bytes, info: GGUFTensor) -> Floats:
    """Dequantize one tensor of a mapped file to fp32. Raises UnsupportedModel naming it."""
    kind, raw = _raw_blocks(data, info)
    try:
        # As one long row: `dequantize` works through 16 rows at a time, and blocks do not care.
        values = dequantize(raw.reshape(1, raw.size), kind)
    except NotImplementedError:
        raise UnsupportedModel(
            f"tensor {info.name!r} is {kind.name}, which the gguf package cannot dequantize"
        ) from None
    return np.require(values, np.float32, ["C", "W"]).reshape(info.shape)


def read_codes(data: Bytes, info: GGUFTensor, packer: Packer) -> Codes | Floats:
    """A quantized matrix as codes: its own, or 8-bit ones; anything else as `read_floats`."""
    kind, raw = _raw_blocks(data, info)
    if len(info.shape) != 2 or kind in _FLOATS:
        return read_floats(data, info)
    codes = packer.gguf_codes(info.type_id, raw, (info.shape[0], info.shape[1]))
    return packer.quantize(read_floats(data, info)) if codes is None else codes


def _raw_blocks(data: Bytes, info: GGUFTensor) -> tuple[GGMLQuantizationType, Bytes]:
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
