"""From files on disk to a torch model ready to run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import nn

from ..sources.model_files import ModelFiles
from ..sources.progress import Progress, report
from .config import ModelConfig
from .dummy_weights import fill_with_random_weights
from .linear import pack_linears
from .llama import LlamaForCausalLM
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
    # The packages that read checkpoints are imported when there is one to read: a machine that
    # measures random weights need not have them.
    if files.format == "gguf":
        from .gguf_weights import GGUFWeights

        weights = GGUFWeights(files.path)
        config = replace(config, tie_word_embeddings=weights.is_tied)
        frequencies = weights.inverse_frequencies(frequencies)
        tensors: Iterable[NamedTensor] = (
            (name, torch.from_numpy(floats)) for name, floats in weights.arrays(config)
        )
        total = len(weights)
    else:
        from . import safetensors_weights

        tensors = safetensors_weights.tensors(files.path)
        total = safetensors_weights.count(files.path)
    model = _empty_model(config, dtype=dtype, device=device)
    model.inverse_frequencies = torch.from_numpy(frequencies).to(device)
    report(fill(model, tensors), total, progress)
    pack_linears(model)
    return model


@torch.inference_mode()
def dummy_model(
    config: ModelConfig,
    *,
    dtype: torch.dtype,
    device: torch.device,
    progress: Progress | None = None,
) -> LlamaForCausalLM:
    """A model of this shape with random weights, drawn on the device."""
    model = _empty_model(config, dtype=dtype, device=device)
    frequencies = config.rope.inverse_frequencies(config.head_dim)
    model.inverse_frequencies = torch.from_numpy(frequencies).to(device)
    total = sum(1 for _ in model.parameters())
    report(fill_with_random_weights(model), total, progress)
    pack_linears(model)
    return model


def _empty_model(
    config: ModelConfig, *, dtype: torch.dtype, device: torch.device
) -> LlamaForCausalLM:
    with torch.device("meta"):
        model = LlamaForCausalLM(config).eval()
    _allocate(model, dtype=dtype, device=device)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    return model


def _allocate(model: nn.Module, *, dtype: torch.dtype, device: torch.device) -> None:
    """Give every parameter memory, whatever is in it.

    What `Module.to_empty` does; but that reads the layout off the meta tensor, for which torch
    imports sympy and half of its compiler: 1 s of start-up time.
    """
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            memory = torch.empty(parameter.shape, dtype=dtype, device=device)
            setattr(module, name, nn.Parameter(memory, requires_grad=False))
