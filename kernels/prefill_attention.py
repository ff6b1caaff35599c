"""Attention of long prefill chunks over the paged KV cache.

The fast path beside the general kernel of `ragged_paged_attention`: query tiles of one head
rather than of a whole group, so that the matrix units, not the loads, set the pace. The algorithm
is FlashAttention-3's (Shah et al., 2024): online softmax, one warp that loads ahead of those that
compute, the softmax of one key tile under the products of the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .dispatch import uses_triton

if TYPE_CHECKING:
    from .ragged_batch import RaggedBatch


def prefill_attention(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: RaggedBatch,
    *,
    scale: float,
    min_query_len: int = 1,
    out: Tensor | None = None,
    lse: Tensor | None = None,
) -> Tensor:
    """softmax(scale * q @ k^T) @ v, causal, for the requests with `min_query_len` tokens or more.

    query: [num_tokens, num_q_heads, head_dim]; caches: `kv_cache_shape` (any strides, head_dim
    contiguous), of query's dtype and holding this step's K and V already. The last query token of a
    request stands at position seq_len - 1, so a chunk of a longer context sees all of it, or what
    the batch's sliding window leaves.

    Writes the rows of such requests to `out` (query's shape and dtype, made when None) and the
    natural log of the softmax denominator to `lse` ([num_tokens, num_q_heads] fp32) if it is given;
    the rows of the other requests, and of padding, are left as they are. A row depends on its own
    request alone, whatever else is in the step. What other slots hold, NaN included, has no
    influence. The grid comes from the host's bounds: no synchronization, a CUDA graph may hold it.

    `prefill_path_takes` (kernels/launch/prefill_attention.py) says which calls this path is for.
    """
    _check(query, key_cache, value_cache, batch, scale, out, lse)
    if out is None:
        out = torch.empty_like(query)
    if not query.shape[0] or batch.max_query_len < min_query_len:
        return out
    if uses_triton(query):
        from .triton.prefill_attention import prefill_attention_triton

        prefill_attention_triton(
            query, key_cache, value_cache, batch, scale, min_query_len, out, lse
        )
    else:
        prefill_attention_torch(
            query, key_cache, value_cache, batch, scale, min_query_len, out, lse
        )
    return out


def prefill_attention_torch(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: RaggedBatch,
    scale: float,
    min_query_len: int,
    out: Tensor,
    lse: Tensor | None,
) -> None:
    """What `prefill_attention` means, request by request: softmax in fp32 (fp64 for fp64)."""
    wide = torch.promote_types(query.dtype, torch.float32)
    group = query.shape[1] // key_cache.shape[2]
    starts, seq_lens = batch.query_start_loc.tolist(), batch.seq_lens.tolist()
    for row, seq_len in enumerate(seq_lens):
        begin, end = starts[row], starts[row + 1]
        if end - begin < max(min_query_len, 1):
            continue
        first, window = seq_len - (end - begin), batch.sliding_window
        oldest = 0 if window is None else max(first - window + 1, 0)
        keys = torch.arange(oldest, seq_len, device=query.device)
        blocks = batch.block_tables[row, keys // batch.block_size].long()
        key, value = (
            cache[blocks, keys % batch.block_size].repeat_interleave(group, dim=1)
            for cache in (key_cache, value_cache)
        )
        scores = torch.einsum("qhd,khd->hqk", query[begin:end], key).to(wide) * scale
        positions = torch.arange(first, seq_len, device=query.device)[:, None]
        hidden = keys > positions
        if window is not None:
            hidden |= keys <= positions - window
        scores = scores.masked_fill(hidden, float("-inf"))
        out[begin:end] = torch.einsum("hqk,khd->qhd", scores.softmax(-1).to(value.dtype), value)
        if lse is not None:
            lse[begin:end] = scores.logsumexp(-1).T


def _check(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: RaggedBatch,
    scale: float,
    out: Tensor | None,
    lse: Tensor | None,
) -> None:
    if not scale > 0:
        raise ValueError(f"prefill_attention: scale must be positive, not {scale}")
    if query.dim() != 3:
        raise ValueError(
            "prefill_attention: query must be [num_tokens, num_q_heads, head_dim],"
            f" not of shape {tuple(query.shape)}"
        )
    num_tokens, num_q_heads, head_dim = query.shape
    if key_cache.shape != value_cache.shape or key_cache.dim() != 4:
        raise ValueError(
            "prefill_attention: both caches must be [num_blocks, block_size, num_kv_heads,"
            f" head_dim], not {tuple(key_cache.shape)} and {tuple(value_cache.shape)}"
        )
    _, block_size, num_kv_heads, cache_dim = key_cache.shape
    if block_size != batch.block_size or cache_dim != head_dim:
        raise ValueError(
            f"prefill_attention: caches of block_size {block_size} and head_dim {cache_dim} do not"
            f" fit a batch of block_size {batch.block_size} and queries of head_dim {head_dim}"
        )
    if num_q_heads % num_kv_heads:
        raise ValueError(
            f"prefill_attention: {num_q_heads} query heads are no multiple of"
            f" {num_kv_heads} KV heads"
        )
    if key_cache.dtype != query.dtype or value_cache.dtype != query.dtype:
        raise ValueError(
            f"prefill_attention: caches of {key_cache.dtype} and {value_cache.dtype} with queries"
            f" of {query.dtype}: quantized caches are for ragged_paged_attention's general kernel"
        )
    if any(x is not None and x.stride(-1) != 1 for x in (query, key_cache, value_cache, out)):
        raise ValueError(
            "prefill_attention: head_dim is the contiguous dimension of query, caches and out"
        )
    if out is not None and (out.shape != query.shape or out.dtype != query.dtype):
        raise ValueError(
            f"prefill_attention: out is {tuple(out.shape)} {out.dtype}, query"
            f" {tuple(query.shape)} {query.dtype}; they must agree"
        )
    if lse is not None and (lse.shape != (num_tokens, num_q_heads) or lse.dtype != torch.float32):
        raise ValueError(
            f"prefill_attention: lse must be fp32 [{num_tokens}, {num_q_heads}],"
            f" not {lse.dtype} {tuple(lse.shape)}"
        )
    if lse is not None and not lse.is_contiguous():
        raise ValueError(f"prefill_attention: lse has strides {lse.stride()}; pass it contiguous")
