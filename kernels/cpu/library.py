"""The C interface of the compiled kernels: structures and signatures of `src/shoal_cpu.cpp`."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_float, c_int, c_int32, c_int64, c_void_p
from pathlib import Path


class MatrixStruct(Structure):
    """`struct Matrix` of matrix.h."""

    _fields_ = [
        ("format", c_int32), ("rows", c_int32), ("columns", c_int32),
        ("data", c_void_p), ("bias", c_void_p),
    ]  # fmt: skip


class LayerStruct(Structure):
    """`struct Layer` of decoder.h."""

    _fields_ = [
        ("qkv", MatrixStruct), ("output", MatrixStruct),
        ("gate_up", MatrixStruct), ("down", MatrixStruct),
        ("input_norm", c_void_p), ("post_attention_norm", c_void_p),
        ("query_norm", c_void_p), ("key_norm", c_void_p),
        ("group", c_int32), ("window", c_int32),
    ]  # fmt: skip


class ModelStruct(Structure):
    """`struct Model` of decoder.h."""

    _fields_ = [
        ("hidden", c_int32), ("intermediate", c_int32), ("num_layers", c_int32),
        ("num_q_heads", c_int32), ("num_kv_heads", c_int32), ("head_dim", c_int32),
        ("eps", c_float),
        ("inverse_frequencies", c_void_p), ("final_norm", c_void_p),
        ("embedding", MatrixStruct), ("lm_head", MatrixStruct),
        ("layers", POINTER(LayerStruct)),
    ]  # fmt: skip


class KVLayoutStruct(Structure):
    """`struct KVLayout` of kv_cache.h."""

    _fields_ = [
        ("format", c_int32), ("block_size", c_int32),
        ("num_kv_heads", c_int32), ("head_dim", c_int32),
        ("block_stride", c_int64),
    ]  # fmt: skip


class StepStruct(Structure):
    """`struct Step` of decoder.h."""

    _fields_ = [
        ("num_tokens", c_int32), ("num_seqs", c_int32),
        ("kv", KVLayoutStruct),
        ("input_ids", c_void_p), ("positions", c_void_p), ("query_lens", c_void_p),
        ("slot_mapping", POINTER(c_void_p)), ("block_tables", POINTER(c_void_p)),
        ("table_width", c_int32),
        ("key_caches", POINTER(c_void_p)), ("value_caches", POINTER(c_void_p)),
    ]  # fmt: skip


class EditsStruct(Structure):
    """`struct Edits` of sampling.h."""

    _fields_ = [
        ("count", c_int32), ("rows", c_void_p), ("tokens", c_void_p), ("values", c_void_p),
    ]  # fmt: skip


class SamplingStruct(Structure):
    """`struct Sampling` of sampling.h."""

    _fields_ = [
        ("num_rows", c_int32), ("tokens", c_void_p),
        ("temperature", c_void_p), ("top_k", c_void_p), ("top_p", c_void_p), ("min_p", c_void_p),
        ("seeds", c_void_p), ("positions", c_void_p),
        ("repetition", EditsStruct), ("presence", EditsStruct),
        ("frequency", EditsStruct), ("added", EditsStruct),
        ("num_logprobs", c_void_p), ("most_logprobs", c_int32),
        ("token_ids", c_void_p), ("broken", c_void_p),
        ("logprob_ids", c_void_p), ("logprobs", c_void_p), ("ranks", c_void_p),
    ]  # fmt: skip


_MATRIX, _SAMPLING = POINTER(MatrixStruct), POINTER(SamplingStruct)
_SIGNATURES: dict[str, tuple[type | None, list[type]]] = {
    "shoal_packed_bytes": (c_int64, [_MATRIX]),
    "shoal_pack_codes": (c_int, [_MATRIX, c_void_p, c_void_p, c_void_p, c_void_p]),
    "shoal_pack_bf16": (None, [_MATRIX, c_void_p, c_void_p]),
    "shoal_unpack_rows": (None, [_MATRIX, c_void_p, c_int32, c_void_p]),
    "shoal_quantize": (None, [c_void_p, c_int64, c_int32, c_void_p, c_void_p, c_void_p]),
    "shoal_gguf_codes": (c_int, [c_int32, c_void_p, c_int64, c_void_p, c_void_p, c_void_p]),
    "shoal_matmul": (c_int, [_MATRIX, c_void_p, c_int32, c_void_p, c_int32]),
    "shoal_kv_keys_bytes": (c_int64, [POINTER(KVLayoutStruct)]),
    "shoal_decoder_new": (c_void_p, [POINTER(ModelStruct), c_int32]),
    "shoal_decoder_free": (None, [c_void_p]),
    "shoal_step": (c_int, [c_void_p, POINTER(StepStruct), _SAMPLING]),
    "shoal_logits": (c_int, [c_void_p, c_void_p, c_int32, c_void_p]),
    "shoal_logprobs": (
        c_int, [c_void_p, c_void_p, c_void_p, c_int32, c_int32, c_void_p, c_void_p, c_void_p],
    ),
    "shoal_sample_logits": (c_int, [_SAMPLING, c_void_p, c_int32]),
}  # fmt: skip


def open_library(path: Path) -> ctypes.CDLL:
    """Load a compiled library and declare its functions."""
    library = ctypes.CDLL(str(path))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
