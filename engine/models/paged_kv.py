"""What a layer sees of the paged KV cache and of a step: the same on a CPU and on a GPU.

On a CPU attention is planned on the host, sequence by sequence (`AttentionMetadata`); on a GPU the
kernel reads lengths and block tables from device memory (`RaggedBatch`), so that nothing but those
tensors changes from step to step and a CUDA graph can hold the launch.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from shoal.kernels.attention_metadata import AttentionMetadata
from shoal.kernels.paged_attention import paged_attention
from shoal.kernels.paged_batch import PagedBatch
from shoal.kernels.ragged_batch import RaggedBatch

Batch: TypeAlias = PagedBatch | RaggedBatch
"""One step of one KV cache group, as a backend gives it."""
Plan: TypeAlias = AttentionMetadata | RaggedBatch
"""The same as the layers of the group read it."""


class LayerKV(NamedTuple):
    """Caches of one layer, of `kv_cache_shape`; the scales of quantized ones, value = code * scale:
    fp32 [num_kv_heads], or [num_blocks, block_size, num_kv_heads]."""

    keys: Tensor
    values: Tensor
    k_scale: Tensor | None = None
    v_scale: Tensor | None = None


def plan_attention(batch: Batch, device: torch.device) -> Plan:
    """What all layers of a group share in a step."""
    if isinstance(batch, RaggedBatch):
        return batch
    return AttentionMetadata.build(batch, device)


def attend(query: Tensor, kv: LayerKV, plan: Plan, *, scale: float) -> Tensor:
    """Causal attention of `query` [num_tokens, num_q_heads, head_dim] over the cache."""
    if isinstance(plan, AttentionMetadata):
        return paged_attention(query, kv.keys, kv.values, plan, scale=scale)
    from shoal.kernels.paged_attention import ragged_paged_attention

    out = ragged_paged_attention(
        query, kv.keys, kv.values, plan, scale=scale, k_scale=kv.k_scale, v_scale=kv.v_scale
    )
    assert isinstance(out, Tensor)
    return out
