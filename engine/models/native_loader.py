"""From files on disk to a model on the native CPU kernels. Loads no torch."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from dataclasses import replace

from shoal.kernels.cpu.packed import Packer

from ..sources.model_files import ModelFiles
from ..sources.progress import Progress, report
from . import safetensors_weights
from .config import ModelConfig
from .gguf_weights import GGUFWeights
from .native_llama import NativeLlama
from .native_weights import NativeLoader, Precision, Weight


def load_native_model(
    files: ModelFiles,
    config: ModelConfig,
    library: ctypes.CDLL,
    *,
    precision: Precision,
    num_threads: int,
    progress: Progress | None = None,
) -> NativeLlama:
    """Pack the weights, one matrix in flight at a time.

    Raises UnsupportedModel when the checkpoint and `config` do not match.
    """
    frequencies = config.rope.inverse_frequencies(config.head_dim)
    packer = Packer(library)
    if files.format == "gguf":
        weights = GGUFWeights(files.path)
        config = replace(config, tie_word_embeddings=weights.is_tied)
        frequencies = weights.inverse_frequencies(frequencies)
        tensors: Iterable[tuple[str, Weight]] = weights.codes(config, packer)
        total = len(weights)
    else:
        tensors = safetensors_weights.arrays(files.path)
        total = safetensors_weights.count(files.path)
    loader = NativeLoader(config, packer, precision)
    report(loader.load(tensors), total, progress)
    return NativeLlama(config, loader.finish(frequencies), library, num_threads=num_threads)
