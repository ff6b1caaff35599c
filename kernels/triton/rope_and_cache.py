"""qk-norm, rotary embedding, and K and V written to the paged cache in its own type: one pass."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_wait

from ..kv_quantization import scales_are_per_token
from ..launch.rope_and_cache import rope_and_cache_config
from .quick_launch import QuickLaunch, dependent_launch
from .rows import row_stride


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
    """See `kernels.rope_and_cache`: one launch over tiles of tokens x heads."""
    num_tokens, head_dim = qkv.shape[0], key_cache.shape[-1]
    query = torch.empty((num_tokens, num_q_heads, head_dim), dtype=qkv.dtype, device=qkv.device)
    if not num_tokens:
        return query
    for name, cache in (("key", key_cache), ("value", value_cache)):
        if cache.stride(3) != 1 and head_dim > 1:
            raise ValueError(
                f"rope_and_cache: {name}_cache has strides {cache.stride()}; head_dim must be dense"
            )
    if qkv.stride(1) != 1 or cos.stride() != sin.stride() or cos.stride(1) != 1:
        qkv, cos, sin = qkv.contiguous(), cos.contiguous(), sin.contiguous()
    config = rope_and_cache_config(num_kv_heads, head_dim)
    q_tiles, kv_tiles = -(-num_q_heads // config.heads), -(-num_kv_heads // config.heads)
    pdl = dependent_launch(qkv.device)
    _quick_rope_and_cache(
        (-(-num_tokens // config.tokens), q_tiles + 2 * kv_tiles),
        qkv,
        cos,
        sin,
        query,
        key_cache,
        value_cache,
        slot_mapping.contiguous(),
        q_norm,
        k_norm,
        k_scale,
        v_scale,
        num_tokens,
        eps,
        NUM_Q_HEADS=num_q_heads,
        NUM_KV_HEADS=num_kv_heads,
        HEAD_DIM=head_dim,
        BLOCK_SIZE=key_cache.shape[1],
        STRIDE_QKV=row_stride(qkv),
        STRIDE_COS=row_stride(cos),
        **_strides("KC", key_cache),
        **_strides("VC", value_cache),
        **_strides("KS", k_scale),
        **_strides("VS", v_scale),
        K_SCALE_PER_TOKEN=scales_are_per_token(k_scale),
        V_SCALE_PER_TOKEN=scales_are_per_token(v_scale),
        TOKENS=config.tokens,
        HEADS=config.heads,
        HALF=config.half,
        PDL=pdl,
        num_warps=config.num_warps,
        launch_pdl=pdl,
    )
    return query


def _strides(name: str, of_slots: Tensor | None) -> dict[str, int]:
    """Of block, offset and head: of a cache, or of scales, where one a head has only the last."""
    block, offset, head = 0, 0, 0
    if of_slots is not None and of_slots.dim() == 1:
        head = of_slots.stride(0)
    elif of_slots is not None:
        block, offset, head = of_slots.stride()[:3]
    return {f"{name}_BLOCK": block, f"{name}_OFFSET": offset, f"{name}_HEAD": head}


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
    eps,
    NUM_Q_HEADS: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    STRIDE_QKV: tl.constexpr,
    STRIDE_COS: tl.constexpr,
    KC_BLOCK: tl.constexpr,  # strides: of the key cache from block to block, ...
    KC_OFFSET: tl.constexpr,
    KC_HEAD: tl.constexpr,
    VC_BLOCK: tl.constexpr,
    VC_OFFSET: tl.constexpr,
    VC_HEAD: tl.constexpr,
    KS_BLOCK: tl.constexpr,
    KS_OFFSET: tl.constexpr,
    KS_HEAD: tl.constexpr,
    VS_BLOCK: tl.constexpr,
    VS_OFFSET: tl.constexpr,
    VS_HEAD: tl.constexpr,
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
    q_tiles: tl.constexpr = (NUM_Q_HEADS + HEADS - 1) // HEADS
    kv_tiles: tl.constexpr = (NUM_KV_HEADS + HEADS - 1) // HEADS
    tile = tl.program_id(1)
    tokens = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    token_mask = tokens < num_tokens

    if tile < q_tiles:
        heads = tile * HEADS + tl.arange(0, HEADS)
        mask = _mask(token_mask, heads < NUM_Q_HEADS, HEAD_DIM, HALF)
        low, high = _load_heads(qkv_ptr + tokens * STRIDE_QKV, heads, mask, HEAD_DIM, HALF)
        low, high = _norm_and_rotate(
            low, high, q_norm_ptr, cos_ptr, sin_ptr, tokens * STRIDE_COS, token_mask, eps,
            HEAD_DIM, HALF,
        )  # fmt: skip
        places = (tokens[:, None] * NUM_Q_HEADS + heads[None, :]) * HEAD_DIM
        out_ptrs = query_ptr + places[:, :, None] + tl.arange(0, HALF)[None, None, :]
        tl.store(out_ptrs, low.to(query_ptr.dtype.element_ty), mask=mask)
        tl.store(out_ptrs + HEAD_DIM // 2, high.to(query_ptr.dtype.element_ty), mask=mask)
    else:
        slots = tl.load(slots_ptr + tokens, mask=token_mask, other=-1)
        token_mask = slots >= 0
        blocks, offsets = slots // BLOCK_SIZE, slots % BLOCK_SIZE
        heads = (tile - q_tiles) % kv_tiles * HEADS + tl.arange(0, HEADS)
        head_mask = heads < NUM_KV_HEADS
        mask = _mask(token_mask, head_mask, HEAD_DIM, HALF)
        if tile < q_tiles + kv_tiles:
            row_ptrs = qkv_ptr + tokens * STRIDE_QKV
            low, high = _load_heads(row_ptrs, NUM_Q_HEADS + heads, mask, HEAD_DIM, HALF)
            low, high = _norm_and_rotate(
                low, high, k_norm_ptr, cos_ptr, sin_ptr, tokens * STRIDE_COS, token_mask, eps,
                HEAD_DIM, HALF,
            )  # fmt: skip
            _write_heads(
                low, high, mask,
                key_cache_ptr + blocks * KC_BLOCK + offsets * KC_OFFSET, heads * KC_HEAD,
                k_scale_ptr, blocks * KS_BLOCK + offsets * KS_OFFSET, heads * KS_HEAD,
                token_mask, head_mask, K_SCALE_PER_TOKEN, HEAD_DIM, HALF,
            )  # fmt: skip
        else:
            row_ptrs = qkv_ptr + tokens * STRIDE_QKV
            first: tl.constexpr = NUM_Q_HEADS + NUM_KV_HEADS
            low, high = _load_heads(row_ptrs, first + heads, mask, HEAD_DIM, HALF)
            _write_heads(
                low, high, mask,
                value_cache_ptr + blocks * VC_BLOCK + offsets * VC_OFFSET, heads * VC_HEAD,
                v_scale_ptr, blocks * VS_BLOCK + offsets * VS_OFFSET, heads * VS_HEAD,
                token_mask, head_mask, V_SCALE_PER_TOKEN, HEAD_DIM, HALF,
            )  # fmt: skip


@triton.jit
def _mask(token_mask, head_mask, HEAD_DIM: tl.constexpr, HALF: tl.constexpr):
    """[TOKENS, HEADS, HALF]: what of a tile is there."""
    dims = tl.arange(0, HALF)
    return (token_mask[:, None] & head_mask[None, :])[:, :, None] & (dims < HEAD_DIM // 2)


@triton.jit
def _load_heads(row_ptrs, heads, mask, HEAD_DIM: tl.constexpr, HALF: tl.constexpr):
    """Both halves, fp32 [TOKENS, HEADS, HALF]."""
    ptrs = (row_ptrs[:, None] + (heads * HEAD_DIM)[None, :])[:, :, None] + tl.arange(0, HALF)
    low = tl.load(ptrs, mask=mask, other=0.0).to(tl.float32)
    high = tl.load(ptrs + HEAD_DIM // 2, mask=mask, other=0.0).to(tl.float32)
    return low, high


@triton.jit
def _norm_and_rotate(
    low,
    high,
    norm_ptr,
    cos_ptr,
    sin_ptr,
    places,  # [TOKENS] of the tokens' rows of cos and sin
    token_mask,
    eps,
    HEAD_DIM: tl.constexpr,
    HALF: tl.constexpr,
):
    half: tl.constexpr = HEAD_DIM // 2
    dims = tl.arange(0, HALF)
    table_mask = token_mask[:, None] & (dims < half)[None, :]
    # The second halves: cos repeats itself, and there the sine has its own sign.
    places = places[:, None] + half + dims[None, :]
    cos = tl.load(cos_ptr + places, mask=table_mask, other=0.0)[:, None, :]
    sin = tl.load(sin_ptr + places, mask=table_mask, other=0.0)[:, None, :]
    if norm_ptr is not None:
        squares = tl.sum(low * low + high * high, axis=2)
        inverse = tl.rsqrt(squares / HEAD_DIM + eps)[:, :, None]
        low_weight = tl.load(norm_ptr + dims, mask=dims < half, other=0.0)
        high_weight = tl.load(norm_ptr + half + dims, mask=dims < half, other=0.0)
        low = low * inverse * low_weight.to(tl.float32)
        high = high * inverse * high_weight.to(tl.float32)
    return low * cos - high * sin, high * cos + low * sin


@triton.jit
def _write_heads(
    low,
    high,
    mask,
    slot_ptrs,  # [TOKENS]
    head_places,  # [HEADS]
    scale_ptr,
    scale_places,  # [TOKENS]
    scale_head_places,  # [HEADS]
    token_mask,
    head_mask,
    SCALE_PER_TOKEN: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    HALF: tl.constexpr,
):
    """Codes of the cache's type, and their scales where those belong to a token."""
    element: tl.constexpr = slot_ptrs.dtype.element_ty
    if scale_ptr is not None:
        scale_ptrs = scale_ptr + scale_places[:, None] + scale_head_places[None, :]
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
    ptrs = (slot_ptrs[:, None] + head_places[None, :])[:, :, None] + tl.arange(0, HALF)
    tl.store(ptrs, _encode(low, element), mask=mask)
    tl.store(ptrs + HEAD_DIM // 2, _encode(high, element), mask=mask)


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
