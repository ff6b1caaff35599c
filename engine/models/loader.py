"""From files on disk to a model ready to run."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from shoal.errors import UnsupportedModel
from shoal.kernels.cpu.packed import Packer

from ..sources.gguf_metadata import read_gguf_metadata
from ..sources.model_files import ModelFiles
from ..sources.progress import Progress
from . import safetensors_weights
from .config import ModelConfig
from .gguf_weights import ROPE_FREQS, GGUFWeights
from .linear import pack_linears
from .llama import LlamaForCausalLM
from .native_llama import NativeLlama
from .native_weights import NativeLoader, Precision, Weight
from .weights import NamedTensor, fill


@torch.inference_mode()
def load_model(
    files: ModelFiles,
    config: ModelConfig,
    *,
    dtype: torch.dtype,
    device: torch.device,
    progress: Progress | None = None,
) -> LlamaForCausalLM:
    """Build the modules on `device` in `dtype` and fill them, one tensor in flight at a time.

    Raises UnsupportedModel when the checkpoint and `config` do not match.
    """
    frequencies = config.rope.inverse_frequencies(config.head_dim)
    if files.format == "gguf":
        weights = GGUFWeights(files.path)
        config = replace(config, tie_word_embeddings=weights.is_tied)
        frequencies = _with_factors(frequencies, weights)
        tensors: Iterable[NamedTensor] = weights.tensors(config, permuted=_is_permuted(files))
        total = len(weights)
    else:
        tensors = safetensors_weights.tensors(files.path)
        total = safetensors_weights.count(files.path)
    with torch.device("meta"):
        model = LlamaForCausalLM(config).eval()
    _allocate(model, dtype=dtype, device=device)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    model.inverse_frequencies = frequencies.to(device)
    _report(fill(model, tensors), total, progress)
    pack_linears(model)
    return model


def load_native_model(
    files: ModelFiles,
    config: ModelConfig,
    library: ctypes.CDLL,
    *,
    precision: Precision,
    num_threads: int,
    progress: Progress | None = None,
) -> NativeLlama:
    """Pack the weights for the native CPU kernels. Raises UnsupportedModel as `load_model`."""
    frequencies = config.rope.inverse_frequencies(config.head_dim)
    packer = Packer(library)
    if files.format == "gguf":
        weights = GGUFWeights(files.path)
        config = replace(config, tie_word_embeddings=weights.is_tied)
        frequencies = _with_factors(frequencies, weights)
        tensors: Iterable[tuple[str, Weight]] = weights.coded_tensors(
            config, packer, permuted=_is_permuted(files)
        )
        total = len(weights)
    else:
        tensors = safetensors_weights.tensors(files.path)
        total = safetensors_weights.count(files.path)
    loader = NativeLoader(config, packer, precision)
    _report(loader.load(tensors), total, progress)
    return NativeLlama(config, loader.finish(frequencies), library, num_threads=num_threads)


def _is_permuted(files: ModelFiles) -> bool:
    """Whether a GGUF file has Q and K in llama.cpp's order."""
    return bool(read_gguf_metadata(files.path)["general.architecture"] == "llama")


def _with_factors(frequencies: Tensor, weights: GGUFWeights) -> Tensor:
    factors = weights.rope_factors()
    if factors is None:
        return frequencies
    if factors.shape != frequencies.shape:
        raise UnsupportedModel(
            f"{ROPE_FREQS} has shape {list(factors.shape)}, expected"
            f" {list(frequencies.shape)}: half of each head's dimensions"
        )
    return frequencies / factors


def _report(names: Iterator[str], total: int, progress: Progress | None) -> None:
    for done, _name in enumerate(names, start=1):
        if progress is not None:
            progress.update("loading weights", done, total)


def _allocate(model: nn.Module, *, dtype: torch.dtype, device: torch.device) -> None:
    """Give every parameter memory, whatever is in it.

    What `Module.to_empty` does; but that reads the layout off the meta tensor, for which torch
    imports sympy and half of its compiler: 1 s of start-up time.
    """
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            memory = torch.empty(parameter.shape, dtype=dtype, device=device)
            setattr(module, name, nn.Parameter(memory, requires_grad=False))
