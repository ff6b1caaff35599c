"""What a layer sees of the paged KV cache and of a step: the same on a CPU and on a GPU.

On a CPU attention is planned on the host, sequence by sequence (`AttentionMetadata`); on a GPU the
kernel reads lengths and block tables from device memory (`RaggedBatch`), so that nothing but those
tensors changes from step to step and a CUDA graph can hold the launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from torch import Tensor

from shoal.kernels.attention_metadata import AttentionMetadata
from shoal.kernels.attention_plan import AttentionPlan, plan_attention
from shoal.kernels.paged_attention import paged_attention, ragged_paged_attention
from shoal.kernels.paged_batch import PagedBatch
from shoal.kernels.ragged_batch import RaggedBatch

from .config import ModelConfig

Batch: TypeAlias = PagedBatch | RaggedBatch
"""One step of one KV cache group, as a backend gives it."""


class LayerKV(NamedTuple):
    """Caches of one layer, of `kv_cache_shape`; the scales of quantized ones, value = code * scale:
    fp32 [num_kv_heads], or [num_blocks, block_size, num_kv_heads]."""

    keys: Tensor
    values: Tensor
    k_scale: Tensor | None = None
    v_scale: Tensor | None = None


class RaggedPlan(NamedTuple):
    """A step on a GPU: what to attend to, and which program does it."""

    batch: RaggedBatch
    work: AttentionPlan
    slot_mapping: Tensor


Plan: TypeAlias = AttentionMetadata | RaggedPlan
"""A step as the layers of one KV cache group read it."""


def plan_step(
    config: ModelConfig, kv_caches: Sequence[LayerKV], batches: Sequence[Batch]
) -> list[Plan]:
    """The plan of each KV cache group, worked out once for all layers."""
    plans: list[Plan] = []
    for group, batch in enumerate(batches):
        keys = kv_caches[config.layer_group.index(group)].keys
        if isinstance(batch, RaggedBatch):
            work = plan_attention(batch, num_q_heads=config.num_q_heads, key_cache=keys)
            plans.append(RaggedPlan(batch, work, batch.slot_mapping))
        else:
            plans.append(AttentionMetadata.build(batch, keys.device))
    return plans


def attend(query: Tensor, kv: LayerKV, plan: Plan, *, scale: float) -> Tensor:
    """Causal attention of `query` [num_tokens, num_q_heads, head_dim] over the cache."""
    if isinstance(plan, AttentionMetadata):
        return paged_attention(query, kv.keys, kv.values, plan, scale=scale)
    return ragged_paged_attention(
        query,
        kv.keys,
        kv.values,
        plan.batch,
        scale=scale,
        k_scale=kv.k_scale,
        v_scale=kv.v_scale,
        plan=plan.work,
    )
