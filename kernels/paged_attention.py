"""Attention over the paged KV cache: one entry for decodes and prefill chunks together.

Paging follows vLLM (Kwon et al., 2023), grouped queries Ainslie et al. (2023), splits of the keys
Flash-Decoding (Dao et al., 2023). `ragged_paged_attention` takes a step as device tensors and
computes in Triton on a GPU. `paged_attention` is the torch path of the CPU, planned on the host: it
copies the blocks it needs and hands them to torch's fused attention, so a decode moves its KV twice
(one gather, one read) where a native kernel reads it once.
"""

from __future__ import annotations

import math
from typing import Literal, overload

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from .attention_metadata import AttentionMetadata, DecodeBucket, PrefillChunk
from .attention_plan import AttentionPlan
from .dispatch import uses_triton
from .kv_quantization import decode_torch, is_quantized, scales_are_per_token
from .ragged_batch import RaggedBatch

_OP = "ragged_paged_attention"


@overload
def ragged_paged_attention(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: RaggedBatch,
    *,
    scale: float,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    k_scale: Tensor | None = None,
    v_scale: Tensor | None = None,
    out: Tensor | None = None,
    return_lse: Literal[False] = False,
    plan: AttentionPlan | None = None,
) -> Tensor: ...


@overload
def ragged_paged_attention(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: RaggedBatch,
    *,
    scale: float,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    k_scale: Tensor | None = None,
    v_scale: Tensor | None = None,
    out: Tensor | None = None,
    return_lse: Literal[True],
    plan: AttentionPlan | None = None,
) -> tuple[Tensor, Tensor]: ...


def ragged_paged_attention(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: RaggedBatch,
    *,
    scale: float,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    k_scale: Tensor | None = None,
    v_scale: Tensor | None = None,
    out: Tensor | None = None,
    return_lse: bool = False,
    plan: AttentionPlan | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """softmax(scale * q @ k^T) @ v for decodes and prefill chunks in one ragged batch.

    Causal, within the batch's sliding window, over each request's own blocks, which hold the K and
    V of this step's tokens already. `softcap` c turns a score s into c * tanh(s / c). `sinks` adds
    one logit a head to the softmax that has no value (gpt-oss).

    query: [num_tokens, num_q_heads, head_dim] fp16, bf16 or fp32; num_q_heads is a multiple of
    num_kv_heads. Caches: `kv_cache_shape` with any strides but the last, of query's dtype or of
    codes: float8_e4m3fn, int8. k_scale, v_scale: None, fp32 [num_kv_heads], or fp32 [num_blocks,
    block_size, num_kv_heads]; value = code * scale, and products with codes are in fp16 on a GPU.
    sinks: [num_q_heads] fp32.

    Returns query's shape and dtype (`out`, if given), and with `return_lse` also the natural log of
    each softmax's denominator, sinks included: [num_tokens, num_q_heads] fp32. Rows that no request
    owns are left as they are. What other slots hold, NaN included, has no influence.

    On a GPU the host never waits. A decode (up to 16 tokens) depends on its own request alone, bit
    for bit: how keys are split follows from the request's numbers, not from the rest of the batch.
    So do chunks, unless a step has more split ones than `CHUNK_PARTIAL_ROWS` holds. `plan` is what
    `plan_attention` made of this batch: give it where several layers share one.
    """
    check_attention(query, key_cache, value_cache, batch, sinks, k_scale, v_scale, out)
    if out is None:
        out = torch.empty_like(query)
    lse = query.new_empty(query.shape[:2], dtype=torch.float32) if return_lse else None
    if uses_triton(query):
        from .triton.paged_attention import ragged_paged_attention_triton as attend
    else:
        attend = ragged_paged_attention_torch
    attend(
        query, key_cache, value_cache, batch,
        scale=scale, softcap=softcap, sinks=sinks, k_scale=k_scale, v_scale=v_scale,
        out=out, lse=lse, plan=plan,
    )  # fmt: skip
    return out if lse is None else (out, lse)


def ragged_paged_attention_torch(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: RaggedBatch,
    *,
    scale: float,
    softcap: float | None,
    sinks: Tensor | None,
    k_scale: Tensor | None,
    v_scale: Tensor | None,
    out: Tensor,
    lse: Tensor | None,
    plan: AttentionPlan | None = None,
    causal: bool = True,
    first_keys: Tensor | None = None,
) -> None:
    """What `ragged_paged_attention` means: request by request, in fp32 (fp64 for fp64 queries).

    Not causal: each token sees all keys. first_keys: [num_reqs], keys before it are not seen.
    """
    wide = torch.float64 if query.dtype == torch.float64 else torch.float32
    group = query.shape[1] // key_cache.shape[2]
    starts, seq_lens = batch.query_start_loc.tolist(), batch.seq_lens.tolist()
    for row, seq_len in enumerate(seq_lens):
        begin, end = starts[row], starts[row + 1]
        if begin == end:
            continue
        at = torch.arange(seq_len - (end - begin), seq_len, device=query.device)[:, None]
        window = batch.sliding_window
        oldest = 0 if first_keys is None else int(first_keys[row])
        if causal and window is not None:
            oldest = max(oldest, seq_len - (end - begin) - window + 1)
        keys = torch.arange(oldest, seq_len, device=query.device)
        blocks = batch.block_tables[row, keys // batch.block_size].long()
        offsets = keys % batch.block_size

        def read(
            cache: Tensor, scales: Tensor | None, blocks: Tensor = blocks, offsets: Tensor = offsets
        ) -> Tensor:
            rows = cache[blocks, offsets]
            if scales_are_per_token(scales) and scales is not None:
                scales = scales[blocks, offsets]
            values = decode_torch(rows, scales) if is_quantized(cache.dtype) else rows
            return values.to(wide).repeat_interleave(group, dim=1)

        scores = torch.einsum("qhd,khd->hqk", query[begin:end].to(wide), read(key_cache, k_scale))
        scores *= scale
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        if causal:
            hidden = keys > at
            if window is not None:
                hidden |= keys <= at - window
            scores = scores.masked_fill(hidden, -math.inf)
        if sinks is not None:
            sink = sinks.to(wide)[:, None, None].expand(-1, end - begin, 1)
            scores = torch.cat([scores, sink], dim=-1)
        log_sum = scores.logsumexp(-1)
        weights = torch.exp(scores - log_sum.nan_to_num(neginf=0.0)[..., None])[..., : len(keys)]
        out[begin:end] = torch.einsum("hqk,khd->qhd", weights, read(value_cache, v_scale))
        if lse is not None:
            lse[begin:end] = log_sum.T


def check_attention(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    batch: RaggedBatch,
    sinks: Tensor | None,
    k_scale: Tensor | None,
    v_scale: Tensor | None,
    out: Tensor | None,
) -> None:
    """ValueError where the tensors of `ragged_paged_attention` do not fit one another."""
    if query.dim() != 3 or key_cache.dim() != 4:
        raise ValueError(
            f"{_OP}: query is [num_tokens, num_q_heads, head_dim] and caches [num_blocks,"
            f" block_size, num_kv_heads, head_dim], not {list(query.shape)} and"
            f" {list(key_cache.shape)}"
        )
    num_blocks, block_size, num_kv_heads, head_dim = key_cache.shape
    if value_cache.shape != key_cache.shape or value_cache.dtype != key_cache.dtype:
        raise ValueError(
            f"{_OP}: key and value cache differ: {key_cache.dtype} {list(key_cache.shape)} and"
            f" {value_cache.dtype} {list(value_cache.shape)}"
        )
    if query.shape[2] != head_dim or num_kv_heads == 0 or query.shape[1] % num_kv_heads:
        raise ValueError(
            f"{_OP}: queries of {query.shape[1]} heads x {query.shape[2]} do not fit a cache of"
            f" {num_kv_heads} heads x {head_dim}"
        )
    if block_size != batch.block_size:
        raise ValueError(
            f"{_OP}: the cache has blocks of {block_size} slots, the batch says {batch.block_size}"
        )
    if not is_quantized(key_cache.dtype) and key_cache.dtype != query.dtype:
        raise ValueError(
            f"{_OP}: a cache of {key_cache.dtype} is neither query's {query.dtype} nor quantized"
        )
    if query.stride(2) != 1 or key_cache.stride(3) != 1 or value_cache.stride(3) != 1:
        raise ValueError(f"{_OP}: head_dim is the contiguous dimension of query and caches")
    for name, scales in (("k_scale", k_scale), ("v_scale", v_scale)):
        if scales is None:
            continue
        if not is_quantized(key_cache.dtype):
            raise ValueError(f"{_OP}: {name} with a cache of {key_cache.dtype}: nothing to scale")
        shapes = (num_kv_heads,), (num_blocks, block_size, num_kv_heads)
        if scales.shape not in shapes or scales.dtype != torch.float32:
            raise ValueError(
                f"{_OP}: {name} is fp32 {list(shapes[0])} or {list(shapes[1])}, not"
                f" {scales.dtype} {list(scales.shape)}"
            )
    if sinks is not None and (sinks.shape != query.shape[1:2] or sinks.dtype != torch.float32):
        raise ValueError(
            f"{_OP}: sinks are fp32 [{query.shape[1]}], not {sinks.dtype} {list(sinks.shape)}"
        )
    if out is not None and (out.shape != query.shape or out.stride(2) != 1):
        raise ValueError(
            f"{_OP}: out is {list(out.shape)}, query {list(query.shape)}; they must agree, with"
            " head_dim contiguous"
        )


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
