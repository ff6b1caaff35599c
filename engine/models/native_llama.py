"""The Llama family on a CPU: all layers of a step in one call of the native kernels."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shoal.kernels.cpu.library import LayerStruct, ModelStruct, StepStruct
from shoal.kernels.cpu.packed import PackedMatrix
from shoal.kernels.paged_batch import PagedBatch

from .config import ModelConfig

Floats = NDArray[np.float32]
KVCache = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeLayer:
    """The weights of one decoder layer."""

    qkv: PackedMatrix
    output: PackedMatrix
    gate_up: PackedMatrix
    """Rows in turns: 32 of the gate, 32 of up; padded with zero rows."""
    down: PackedMatrix
    input_norm: Floats
    post_attention_norm: Floats
    query_norm: Floats | None
    key_norm: Floats | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeWeights:
    """Everything that the kernels read; must outlive the decoder made from it."""

    embedding: PackedMatrix
    lm_head: PackedMatrix
    layers: list[NativeLayer]
    final_norm: Floats
    inverse_frequencies: Floats


def unsupported_by_kernels(config: ModelConfig, *, block_size: int) -> str | None:
    """Why the native kernels cannot run a model; None when they can."""
    if config.head_dim % 16:
        return f"head_dim is {config.head_dim}, the CPU kernels need a multiple of 16"
    if block_size % 16:
        return f"block_size is {block_size}, the CPU kernels need a multiple of 16"
    return None


class NativeLlama:
    """Implements `CausalLM` on the compiled kernels; frees their memory when it is collected.

    One call at a time: the scratch memory is shared.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: NativeWeights,
        library: ctypes.CDLL,
        *,
        num_threads: int,
    ) -> None:
        self.config = config
        self._library = library
        self._weights = weights
        self._decoder = library.shoal_decoder_new(_model_struct(config, weights), num_threads)
        if not self._decoder:
            raise MemoryError("no memory for the decoder")
        weakref.finalize(self, library.shoal_decoder_free, self._decoder)
        self._kv_caches: list[KVCache] = []
        self._kv_pointers = (_pointers([]), _pointers([]))

    def __call__(
        self,
        input_ids: Tensor,
        positions: Tensor,
        kv_caches: list[KVCache],
        batches: list[PagedBatch],
    ) -> Tensor:
        """Hidden states after the last norm, as `CausalLM` says."""
        if kv_caches is not self._kv_caches:
            self._kv_caches = kv_caches
            self._kv_pointers = (
                _pointers([key.data_ptr() for key, _ in kv_caches]),
                _pointers([value.data_ptr() for _, value in kv_caches]),
            )
        hidden = torch.empty(len(input_ids), self.config.hidden_size)
        tables = [batch.block_tables.contiguous() for batch in batches]
        query_lens = batches[0].query_lens
        step = StepStruct(
            num_tokens=len(input_ids),
            num_seqs=len(query_lens),
            block_size=batches[0].block_size,
            kv_bytes=kv_caches[0][0].element_size(),
            input_ids=input_ids.data_ptr(),
            positions=positions.data_ptr(),
            query_lens=query_lens.ctypes.data,
            slot_mapping=_pointers([batch.slot_mapping.data_ptr() for batch in batches]),
            block_tables=_pointers([table.data_ptr() for table in tables]),
            table_width=tables[0].shape[1],
            key_caches=self._kv_pointers[0],
            value_caches=self._kv_pointers[1],
            hidden=hidden.data_ptr(),
        )
        if self._library.shoal_forward(self._decoder, step):
            raise MemoryError(f"no memory for a step of {len(input_ids)} tokens")
        return hidden

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """Logits [num_rows, vocab_size] fp32 of chosen rows of the hidden states."""
        hidden = hidden.contiguous()
        logits = torch.empty(len(hidden), self.config.vocab_size)
        if self._library.shoal_logits(
            self._decoder, hidden.data_ptr(), len(hidden), logits.data_ptr()
        ):
            raise MemoryError(f"no memory for the logits of {len(hidden)} tokens")
        return logits


def _model_struct(config: ModelConfig, weights: NativeWeights) -> ModelStruct:
    layers = (LayerStruct * config.num_layers)()
    for i, layer in enumerate(weights.layers):
        layers[i] = LayerStruct(
            qkv=layer.qkv.struct,
            output=layer.output.struct,
            gate_up=layer.gate_up.struct,
            down=layer.down.struct,
            input_norm=_address(layer.input_norm),
            post_attention_norm=_address(layer.post_attention_norm),
            query_norm=_address(layer.query_norm),
            key_norm=_address(layer.key_norm),
            group=config.layer_group[i],
            window=config.windows[i] or 0,
        )
    return ModelStruct(
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        num_layers=config.num_layers,
        num_q_heads=config.num_q_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        eps=config.rms_norm_eps,
        inverse_frequencies=_address(weights.inverse_frequencies),
        final_norm=_address(weights.final_norm),
        embedding=weights.embedding.struct,
        lm_head=weights.lm_head.struct,
        layers=layers,
    )


def _address(array: Floats | None) -> int | None:
    return None if array is None else array.ctypes.data


def _pointers(addresses: Sequence[int]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(addresses))(*addresses)
