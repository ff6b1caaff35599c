"""qk-norm, rotary embedding, and K and V written to the paged cache in its own type: one pass."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_wait

from ..kv_quantization import scales_are_per_token
from ..launch.rope_and_cache import rope_and_cache_launch
from .quick_launch import QuickLaunch, dependent_launch


def rope_and_cache_triton(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    slot_mapping: Tensor,
    *,
    num_q_heads: int,
    num_kv_heads: int,
    q_norm: Tensor | None,
    k_norm: Tensor | None,
    eps: float,
    k_scale: Tensor | None,
    v_scale: Tensor | None,
) -> Tensor:
    num_tokens, head_dim = qkv.shape[0], key_cache.shape[-1]
    query = torch.empty((num_tokens, num_q_heads, head_dim), dtype=qkv.dtype, device=qkv.device)
    if not num_tokens:
        return query
    for name, cache in (("key", key_cache), ("value", value_cache)):
        if cache.stride(3) != 1 and head_dim > 1:
            raise ValueError(f"{name}_cache has strides {cache.stride()}; head_dim must be dense")
    if qkv.stride(1) != 1 or cos.stride() != sin.stride() or cos.stride(1) != 1:
        qkv, cos, sin = qkv.contiguous(), cos.contiguous(), sin.contiguous()
    launch = rope_and_cache_launch(num_kv_heads, head_dim)
    q_tiles, kv_tiles = -(-num_q_heads // launch.heads), -(-num_kv_heads // launch.heads)
    pdl = dependent_launch(qkv.device)
    _quick_rope_and_cache(
        (-(-num_tokens // launch.tokens), q_tiles + 2 * kv_tiles),
        qkv,
        cos,
        sin,
        query,
        key_cache,
        value_cache,
        slot_mapping,
        q_norm,
        k_norm,
        k_scale,
        v_scale,
        num_tokens,
        num_q_heads,
        num_kv_heads,
        head_dim,
        key_cache.shape[1],
        q_tiles,
        kv_tiles,
        eps,
        qkv.stride(0),
        cos.stride(0),
        *key_cache.stride()[:3],
        *value_cache.stride()[:3],
        *_scale_strides(k_scale),
        *_scale_strides(v_scale),
        K_SCALE_PER_TOKEN=scales_are_per_token(k_scale),
        V_SCALE_PER_TOKEN=scales_are_per_token(v_scale),
        TOKENS=launch.tokens,
        HEADS=launch.heads,
        HALF=launch.half,
        PDL=pdl,
        num_warps=launch.num_warps,
        launch_pdl=pdl,
    )
    return query


def _scale_strides(scale: Tensor | None) -> tuple[int, int, int]:
    """Of block, offset and head."""
    if scale is None:
        return 0, 0, 0
    if scale.dim() == 1:
        return 0, 0, scale.stride(0)
    return scale.stride(0), scale.stride(1), scale.stride(2)


@triton.jit(do_not_specialize=["num_tokens"])
def _rope_and_cache_kernel(
    qkv_ptr,  # [num_tokens, (num_q_heads + 2 * num_kv_heads) * head_dim]
    cos_ptr,  # [num_tokens, head_dim] fp32
    sin_ptr,  # as cos
    query_ptr,  # [num_tokens, num_q_heads, head_dim] contiguous
    key_cache_ptr,  # [num_blocks, block_size, num_kv_heads, head_dim]
    value_cache_ptr,  # as key_cache
    slots_ptr,  # [num_tokens] int64
    q_norm_ptr,  # [head_dim] or None
    k_norm_ptr,  # [head_dim] or None
    k_scale_ptr,  # None, [num_kv_heads], or [num_blocks, block_size, num_kv_heads] and written
    v_scale_ptr,  # as k_scale
    num_tokens,
    num_q_heads,
    num_kv_heads,
    head_dim,
    block_size,
    q_tiles,
    kv_tiles,
    eps,
    stride_qkv,
    stride_cos,
    stride_kc_block,
    stride_kc_offset,
    stride_kc_head,
    stride_vc_block,
    stride_vc_offset,
    stride_vc_head,
    stride_ks_block,
    stride_ks_offset,
    stride_ks_head,
    stride_vs_block,
    stride_vs_offset,
    stride_vs_head,
    K_SCALE_PER_TOKEN: tl.constexpr,
    V_SCALE_PER_TOKEN: tl.constexpr,
    TOKENS: tl.constexpr,
    HEADS: tl.constexpr,
    HALF: tl.constexpr,
    PDL: tl.constexpr,
):
    """low = x[:half] * cos - x[half:] * sin; high = x[half:] * cos + x[:half] * sin.

    A tile is TOKENS x HEADS heads in two halves. The second grid axis goes through the tiles of
    queries, then of keys, then of values.
    """
    if PDL:
        gdc_wait()
    tile = tl.program_id(1)
    tokens = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    half = head_dim // 2
    dims = tl.arange(0, HALF)
    token_mask = tokens < num_tokens

    if tile < q_tiles:
        heads = tile * HEADS + tl.arange(0, HEADS)
        low, high, mask = _load_heads(
            qkv_ptr, tokens, heads, heads, num_q_heads, token_mask, half, dims, stride_qkv
        )
        low, high = _norm_and_rotate(
            low, high, q_norm_ptr, cos_ptr, sin_ptr, tokens, token_mask, half, dims, stride_cos, eps
        )
        heads_of_tokens = tokens[:, None] * num_q_heads + heads[None, :]
        out_ptrs = query_ptr + (heads_of_tokens * head_dim)[:, :, None] + dims[None, None, :]
        tl.store(out_ptrs, low.to(query_ptr.dtype.element_ty), mask=mask)
        tl.store(out_ptrs + half, high.to(query_ptr.dtype.element_ty), mask=mask)
    else:
        slots = tl.load(slots_ptr + tokens, mask=token_mask, other=-1)
        token_mask = slots >= 0
        blocks, offsets = slots // block_size, slots % block_size
        if tile < q_tiles + kv_tiles:
            heads = (tile - q_tiles) * HEADS + tl.arange(0, HEADS)
            low, high, mask = _load_heads(
                qkv_ptr,
                tokens,
                heads,
                num_q_heads + heads,
                num_kv_heads,
                token_mask,
                half,
                dims,
                stride_qkv,
            )
            low, high = _norm_and_rotate(
                low,
                high,
                k_norm_ptr,
                cos_ptr,
                sin_ptr,
                tokens,
                token_mask,
                half,
                dims,
                stride_cos,
                eps,
            )
            _write_heads(
                low,
                high,
                mask,
                key_cache_ptr,
                k_scale_ptr,
                blocks,
                offsets,
                token_mask,
                heads,
                num_kv_heads,
                half,
                dims,
                stride_kc_block,
                stride_kc_offset,
                stride_kc_head,
                stride_ks_block,
                stride_ks_offset,
                stride_ks_head,
                K_SCALE_PER_TOKEN,
            )
        else:
            heads = (tile - q_tiles - kv_tiles) * HEADS + tl.arange(0, HEADS)
            low, high, mask = _load_heads(
                qkv_ptr,
                tokens,
                heads,
                num_q_heads + num_kv_heads + heads,
                num_kv_heads,
                token_mask,
                half,
                dims,
                stride_qkv,
            )
            _write_heads(
                low,
                high,
                mask,
                value_cache_ptr,
                v_scale_ptr,
                blocks,
                offsets,
                token_mask,
                heads,
                num_kv_heads,
                half,
                dims,
                stride_vc_block,
                stride_vc_offset,
                stride_vc_head,
                stride_vs_block,
                stride_vs_offset,
                stride_vs_head,
                V_SCALE_PER_TOKEN,
            )


@triton.jit
def _load_heads(
    qkv_ptr, tokens, heads, heads_of_qkv, num_heads, token_mask, half, dims, stride_qkv
):
    """Both halves, fp32 [TOKENS, HEADS, HALF], and the mask of what is there."""
    mask = (token_mask[:, None] & (heads < num_heads)[None, :])[:, :, None]
    mask = mask & (dims < half)[None, None, :]
    places = (tokens * stride_qkv)[:, None] + (heads_of_qkv * (2 * half))[None, :]
    ptrs = qkv_ptr + places[:, :, None] + dims[None, None, :]
    low = tl.load(ptrs, mask=mask, other=0.0).to(tl.float32)
    high = tl.load(ptrs + half, mask=mask, other=0.0).to(tl.float32)
    return low, high, mask


@triton.jit
def _norm_and_rotate(
    low, high, norm_ptr, cos_ptr, sin_ptr, tokens, token_mask, half, dims, stride_cos, eps
):
    dim_mask = dims < half
    table_mask = token_mask[:, None] & dim_mask[None, :]
    # The second halves: cos repeats itself, and there the sine has its own sign.
    places = (tokens * stride_cos)[:, None] + (half + dims)[None, :]
    cos = tl.load(cos_ptr + places, mask=table_mask, other=0.0)[:, None, :]
    sin = tl.load(sin_ptr + places, mask=table_mask, other=0.0)[:, None, :]
    if norm_ptr is not None:
        squares = tl.sum(low * low + high * high, axis=2)
        inverse = tl.rsqrt(squares / (2 * half) + eps)[:, :, None]
        low_weight = tl.load(norm_ptr + dims, mask=dim_mask, other=0.0).to(tl.float32)
        high_weight = tl.load(norm_ptr + half + dims, mask=dim_mask, other=0.0).to(tl.float32)
        low = low * inverse * low_weight[None, None, :]
        high = high * inverse * high_weight[None, None, :]
    return low * cos - high * sin, high * cos + low * sin


@triton.jit
def _write_heads(
    low,
    high,
    mask,
    cache_ptr,
    scale_ptr,
    blocks,
    offsets,
    token_mask,
    heads,
    num_kv_heads,
    half,
    dims,
    stride_block,
    stride_offset,
    stride_head,
    stride_scale_block,
    stride_scale_offset,
    stride_scale_head,
    SCALE_PER_TOKEN: tl.constexpr,
):
    """Codes of the cache's type, and their scales where those belong to a token."""
    element: tl.constexpr = cache_ptr.dtype.element_ty
    head_mask = heads < num_kv_heads
    if scale_ptr is not None:
        places = (blocks * stride_scale_block + offsets * stride_scale_offset)[:, None]
        scale_ptrs = scale_ptr + places + (heads * stride_scale_head)[None, :]
        scale_mask = token_mask[:, None] & head_mask[None, :]
        if SCALE_PER_TOKEN:
            largest = tl.maximum(tl.max(tl.abs(low), axis=2), tl.max(tl.abs(high), axis=2))
            # The bound keeps the scale and its reciprocal finite where all entries are 0.
            scale = tl.maximum(largest, 1e-30) / _code_max(element)
            tl.store(scale_ptrs, scale, mask=scale_mask)
        else:
            scale = tl.load(scale_ptrs, mask=scale_mask, other=1.0)
        inverse = (1.0 / scale)[:, :, None]
        low, high = low * inverse, high * inverse
    places = (blocks * stride_block + offsets * stride_offset)[:, None]
    places = (places + (heads * stride_head)[None, :])[:, :, None] + dims[None, None, :]
    tl.store(cache_ptr + places, _encode(low, element), mask=mask)
    tl.store(cache_ptr + places + half, _encode(high, element), mask=mask)


@triton.jit
def _code_max(element: tl.constexpr):
    return 127.0 if element == tl.int8 else 448.0


@triton.jit
def _encode(values, element: tl.constexpr):
    if element == tl.int8:
        bounded = tl.minimum(tl.maximum(values, -127.0), 127.0)
        # Adding and taking off 1.5 * 2^23 rounds to the nearest integer, ties to even.
        return ((bounded + 12582912.0) - 12582912.0).to(tl.int8)
    elif element == tl.float8e4nv:
        return tl.minimum(tl.maximum(values, -448.0), 448.0).to(tl.float8e4nv)
    else:
        return values.to(element)


_quick_rope_and_cache = QuickLaunch(_rope_and_cache_kernel)
