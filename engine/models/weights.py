"""Fills the torch modules of a model from a stream of named tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from .checkpoint import is_ignored, missing_tensors, not_floats, unknown_tensor, wrong_shape
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


def fill(model: LlamaForCausalLM, tensors: Iterable[NamedTensor]) -> Iterator[str]:
    """Copy every tensor into its place, yielding names as they are done.

    Tensors are converted to the parameter's dtype as they are copied, one at a time. Raises
    UnsupportedModel naming tensors that are missing, unknown, or of the wrong shape.
    """
    targets = _targets(model)
    for name, tensor in tensors:
        target = targets.pop(name, None)
        if target is None:
            if is_ignored(name, model.config):
                continue
            raise unknown_tensor(name)
        if target.shape != tensor.shape:
            raise wrong_shape(name, tensor.shape, expected=target.shape)
        if not tensor.is_floating_point():
            raise not_floats(name, tensor.dtype)
        target.copy_(tensor)
        yield name
    if targets:
        raise missing_tensors(targets)


def _targets(model: LlamaForCausalLM) -> dict[str, Tensor]:
    """Where each tensor of the checkpoint goes: a parameter, or rows of a merged one."""
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
    return targets
