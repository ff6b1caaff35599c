"""A checkpoint as a stream of named tensors, in Hugging Face's names, ready for the modules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from shoal.errors import UnsupportedModel

from .config import ModelConfig
from .llama import LlamaForCausalLM

NamedTensor = tuple[str, Tensor]

# Hugging Face's projections that are merged here: (merged module, position among its parts).
_MERGED = {
    "q_proj": ("qkv_proj", 0),
    "k_proj": ("qkv_proj", 1),
    "v_proj": ("qkv_proj", 2),
    "gate_proj": ("gate_up_proj", 0),
    "up_proj": ("gate_up_proj", 1),
}
_IGNORED = re.compile(r"rotary_emb\.inv_freq$|^rope_freqs\.weight$")


def is_ignored(name: str, config: ModelConfig) -> bool:
    """Whether a checkpoint may hold a tensor that the model does not take from it."""
    tied = name == "lm_head.weight" and config.tie_word_embeddings
    return tied or _IGNORED.search(name) is not None


def fill(model: LlamaForCausalLM, tensors: Iterable[NamedTensor]) -> Iterator[str]:
    """Copy every tensor into its place, yielding names as they are done.

    Tensors are converted to the parameter's dtype as they are copied, one at a time. Raises
    UnsupportedModel naming tensors that are missing, unknown, or of the wrong shape.
    """
    config = model.config
    q_rows = config.num_q_heads * config.head_dim
    kv_rows = config.num_kv_heads * config.head_dim
    part_rows = {
        "qkv_proj": (q_rows, kv_rows, kv_rows),
        "gate_up_proj": (config.intermediate_size,) * 2,
    }
    targets: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        module = name.split(".")[-2]
        if module not in part_rows:
            targets[name] = parameter.data
            continue
        parts = torch.split(parameter.data, list(part_rows[module]))
        for source, (merged, index) in _MERGED.items():
            if merged == module:
                targets[name.replace(merged, source)] = parts[index]
    for name, tensor in tensors:
        target = targets.pop(name, None)
        if target is None:
            if is_ignored(name, config):
                continue
            raise UnsupportedModel(f"the checkpoint has a tensor {name!r} that this model has not")
        if target.shape != tensor.shape:
            raise UnsupportedModel(
                f"tensor {name!r} has shape {list(tensor.shape)}, expected {list(target.shape)}"
            )
        if not tensor.is_floating_point():  # quantized, and the scales are not ours to guess
            raise UnsupportedModel(f"tensor {name!r} holds {tensor.dtype}, expected a float type")
        target.copy_(tensor)
        yield name
    if targets:
        missing = sorted(targets)
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise UnsupportedModel(f"the checkpoint lacks {', '.join(missing[:5])}{more}")
