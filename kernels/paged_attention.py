"""Attention over the paged KV cache: one entry for decodes and prefill chunks together.

Paging follows vLLM (Kwon et al., 2023), grouped queries Ainslie et al. (2023). This is the torch
path, which runs everywhere: it copies the blocks it needs and hands them to torch's fused
attention, so a decode moves its KV twice (one gather, one read) where a native kernel reads it
once.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from .attention_metadata import AttentionMetadata, DecodeBucket, PrefillChunk


def paged_attention(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    metadata: AttentionMetadata,
    *,
    scale: float,
) -> Tensor:
    """softmax(scale * q @ k^T) @ v, causal, over each request's own blocks.

    query: [num_tokens, num_q_heads, head_dim]; caches: `kv_cache_shape`, holding the K and V of
    this step's tokens already; num_q_heads is a multiple of num_kv_heads. Returns query's shape and
    dtype. What other slots hold, NaN included, has no influence.
    """
    out = torch.empty_like(query)
    for bucket in metadata.decodes:
        out[bucket.tokens] = _decode(query[bucket.tokens], key_cache, value_cache, bucket, scale)
    for chunk in metadata.prefills:
        out[chunk.tokens] = _prefill(query[chunk.tokens], key_cache, value_cache, chunk, scale)
    return out


def _decode(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, bucket: DecodeBucket, scale: float
) -> Tensor:
    num_seqs, num_q_heads, head_dim = query.shape
    num_kv_heads = key_cache.shape[2]

    def gather(cache: Tensor) -> Tensor:
        blocks = cache.index_select(0, bucket.block_ids)
        rows = blocks.view(num_seqs, -1, num_kv_heads, head_dim)
        # A masked score would hide a stale value, but not a NaN: 0 * NaN is NaN.
        rows[bucket.unused] = 0
        return rows.transpose(1, 2)

    # The query heads of a group share their keys: they become the query rows of one head.
    grouped = query.view(num_seqs, num_kv_heads, num_q_heads // num_kv_heads, head_dim)
    mask = bucket.mask.to(query.dtype)
    keys, values = gather(key_cache), gather(value_cache)
    out = scaled_dot_product_attention(grouped, keys, values, attn_mask=mask, scale=scale)
    return out.reshape(num_seqs, num_q_heads, head_dim)


def _prefill(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, chunk: PrefillChunk, scale: float
) -> Tensor:
    num_queries, num_q_heads, head_dim = query.shape
    num_kv_heads = key_cache.shape[2]
    group = num_q_heads // num_kv_heads
    grouped = query.view(num_queries, num_kv_heads, group, head_dim).permute(1, 2, 0, 3)

    def gather(cache: Tensor) -> Tensor:
        slots = cache.index_select(0, chunk.block_ids).view(-1, num_kv_heads, head_dim)
        rows = slots[: chunk.num_keys].transpose(0, 1)
        return rows.unsqueeze(1).expand(-1, group, -1, -1)

    keys, values = gather(key_cache), gather(value_cache)
    mask = None if chunk.mask is None else chunk.mask.to(query.dtype)
    out = scaled_dot_product_attention(
        grouped, keys, values, attn_mask=mask, is_causal=mask is None, scale=scale
    )
    return out.permute(2, 0, 1, 3).reshape(num_queries, num_q_heads, head_dim)
