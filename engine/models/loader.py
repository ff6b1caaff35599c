"""From files on disk to a model ready to run."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from shoal.errors import UnsupportedModel

from ..sources.gguf_metadata import read_gguf_metadata
from ..sources.model_files import ModelFiles
from ..sources.progress import Progress
from . import safetensors_weights
from .config import ModelConfig
from .gguf_weights import ROPE_FREQS, GGUFWeights
from .linear import pack_linears
from .llama import LlamaForCausalLM
from .weights import fill


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
        architecture = read_gguf_metadata(files.path)["general.architecture"]
        tensors, total = weights.tensors(config, permuted=architecture == "llama"), len(weights)
        if (factors := weights.rope_factors()) is not None:
            if factors.shape != frequencies.shape:
                raise UnsupportedModel(
                    f"{ROPE_FREQS} has shape {list(factors.shape)}, expected"
                    f" {list(frequencies.shape)}: half of each head's dimensions"
                )
            frequencies = frequencies / factors
    else:
        tensors = safetensors_weights.tensors(files.path)
        total = safetensors_weights.count(files.path)
    with torch.device("meta"):
        model = LlamaForCausalLM(config).eval()
    _allocate(model, dtype=dtype, device=device)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    model.inverse_frequencies = frequencies.to(device)
    for done, _name in enumerate(fill(model, tensors), start=1):
        if progress is not None:
            progress.update("loading weights", done, total)
    pack_linears(model)
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
