"""The Llama family on a CPU: all layers of a step in one call of the native kernels."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal.kernels.cpu.kv_cache import KVCache
from shoal.kernels.cpu.library import LayerStruct, ModelStruct, SamplingStruct, StepStruct
from shoal.kernels.cpu.packed import PackedMatrix

from .config import ModelConfig

Floats = NDArray[np.float32]
LongInts = NDArray[np.int64]


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
    if config.head_dim % 16 or config.head_dim > 256:
        return f"head_dim is {config.head_dim}, the CPU kernels need a multiple of 16 up to 256"
    if block_size % 16:
        return f"block_size is {block_size}, the CPU kernels need a multiple of 16"
    return None


class NativeLlama:
    """A model on the compiled kernels; frees their memory when it is collected.

    `use_kv_cache` first, then steps. One call at a time: the scratch memory is shared. Every call
    raises MemoryError when there is none.
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
        self.library = library
        self.weights = weights
        self._decoder = library.shoal_decoder_new(_model_struct(config, weights), num_threads)
        if not self._decoder:
            raise MemoryError("no memory for the decoder")
        weakref.finalize(self, library.shoal_decoder_free, self._decoder)

    def use_kv_cache(self, cache: KVCache) -> None:
        """Read and write this one from now on."""
        self._kv_cache = cache

    def step(
        self,
        input_ids: LongInts,
        positions: LongInts,
        *,
        query_lens: LongInts,
        slot_mapping: list[LongInts],
        block_tables: list[NDArray[np.int32]],
        sampling: SamplingStruct | None = None,
    ) -> None:
        """Compute a step of sequences in order of their tokens; fills the KV cache.

        input_ids, positions: [num_tokens]; query_lens: [num_seqs]; per KV cache group
        slot_mapping [num_tokens] and block_tables [num_seqs, max_blocks]. `sampling` asks which
        tokens follow, and has room for the answer. The hidden states stay until the next step; the
        other calls name tokens by their index in it.
        """
        tables = [np.ascontiguousarray(table) for table in block_tables]
        step = StepStruct(
            num_tokens=len(input_ids),
            num_seqs=len(query_lens),
            kv=self._kv_cache.struct,
            input_ids=_address(input_ids),
            positions=_address(positions),
            query_lens=_address(query_lens),
            slot_mapping=_pointers(slot_mapping),
            block_tables=_pointers(tables),
            table_width=tables[0].shape[1],
            key_caches=self._kv_cache.keys,
            value_caches=self._kv_cache.values,
        )
        self._check(self.library.shoal_step(self._decoder, step, sampling), len(input_ids))

    def logits(self, tokens: LongInts) -> Floats:
        """Logits [num_rows, vocab_size] at chosen tokens of the last step."""
        out = np.empty((len(tokens), self.config.vocab_size), np.float32)
        failed = self.library.shoal_logits(
            self._decoder, _address(tokens), len(tokens), _address(out)
        )
        self._check(failed, len(tokens))
        return out

    def logprobs(
        self, tokens: LongInts, targets: NDArray[np.int32], num_top: int
    ) -> tuple[NDArray[np.int32], Floats, NDArray[np.int32]]:
        """Log-probabilities of `targets` [num_rows] as what follows `tokens`, and the best beside.

        Returns ids and log-probabilities [num_rows, 1 + num_top], the target first, and its rank
        [num_rows]. num_top: at most the size of the vocabulary.
        """
        shape = (len(tokens), 1 + num_top)
        ids, values = np.empty(shape, np.int32), np.empty(shape, np.float32)
        ranks = np.empty(len(tokens), np.int32)
        failed = self.library.shoal_logprobs(
            self._decoder, _address(tokens), _address(targets), len(tokens), num_top,
            _address(ids), _address(values), _address(ranks),
        )  # fmt: skip
        self._check(failed, len(tokens))
        return ids, values, ranks

    def _check(self, failed: int, num_rows: int) -> None:
        if failed:
            raise MemoryError(f"no memory for a step of {num_rows} tokens")


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


def _address(array: NDArray[Any] | None) -> int | None:
    if array is None:
        return None
    assert array.flags.c_contiguous
    return array.ctypes.data


def _pointers(arrays: Sequence[NDArray[Any]]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(arrays))(*map(_address, arrays))
