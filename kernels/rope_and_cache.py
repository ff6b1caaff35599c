"""What lies between the QKV product and attention, in one pass over its result.

Normalization of each query and key head (Qwen3), rotary position embedding (Su et al., 2021), and
K and V written to the paged cache in its own type.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .dispatch import uses_triton
from .kv_quantization import is_quantized, scales_are_per_token
from .reshape_and_cache import reshape_and_cache
from .rms_norm import rms_norm_torch
from .rotary import rotary_embedding


def rope_and_cache(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    slot_mapping: Tensor,
    *,
    num_q_heads: int,
    num_kv_heads: int,
    q_norm: Tensor | None = None,
    k_norm: Tensor | None = None,
    eps: float = 1e-6,
    k_scale: Tensor | None = None,
    v_scale: Tensor | None = None,
) -> Tensor:
    """Rotate queries and keys, write keys and values to their slots; returns the queries.

    qkv: [num_tokens, (num_q_heads + 2 * num_kv_heads) * head_dim], holding q, k, v.
    cos, sin: [num_tokens, head_dim] fp32 as `rotary_embedding` takes them: the second half of cos
        repeats the first, and that of sin is the first negated.
    key_cache, value_cache: `kv_cache_shape`, any strides with head_dim contiguous; fp32, bf16,
        fp16, fp8 e4m3 or int8.
    slot_mapping: [num_tokens] int64, slot = block_id * block_size + offset; a token of slot -1
        (padding) is not written.
    q_norm, k_norm: [head_dim] weights of an RMSNorm over each head, before the rotation.
    k_scale, v_scale: None (1); fp32 [num_kv_heads], read; or fp32 [num_blocks, block_size,
        num_kv_heads], where the scale of each token and head is computed and stored.
        value = code * scale (see `kv_quantization`).

    Returns [num_tokens, num_q_heads, head_dim] in qkv's dtype.
    """
    head_dim = key_cache.shape[-1]
    _check_shapes(qkv, cos, sin, slot_mapping, head_dim, num_q_heads, num_kv_heads)
    for cache, scale in ((key_cache, k_scale), (value_cache, v_scale)):
        _check_cache(cache, scale, num_kv_heads)
    if key_cache.shape != value_cache.shape:
        raise ValueError(
            f"rope_and_cache: key cache {tuple(key_cache.shape)} and value cache"
            f" {tuple(value_cache.shape)} must have one shape: a slot is a place in both"
        )
    for weight in (q_norm, k_norm):
        if weight is not None and weight.shape != (head_dim,):
            raise ValueError(
                f"rope_and_cache: a norm has shape {tuple(weight.shape)}; heads have {head_dim}"
            )
    if uses_triton(qkv):
        from .triton.rope_and_cache import rope_and_cache_triton

        body: Callable[..., Tensor] = rope_and_cache_triton
    else:
        body = rope_and_cache_torch
    return body(
        qkv,
        cos,
        sin,
        key_cache,
        value_cache,
        slot_mapping,
        num_q_heads=num_q_heads,
        num_kv_heads=num_kv_heads,
        q_norm=q_norm,
        k_norm=k_norm,
        eps=eps,
        k_scale=k_scale,
        v_scale=v_scale,
    )


def rope_and_cache_torch(
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
    """The meaning of `rope_and_cache`: its three operations one after another."""
    heads = qkv.view(qkv.shape[0], num_q_heads + 2 * num_kv_heads, key_cache.shape[-1])
    query, key, value = torch.split(heads, [num_q_heads, num_kv_heads, num_kv_heads], dim=1)
    if q_norm is not None:
        query = rms_norm_torch(query, q_norm, eps=eps)
    if k_norm is not None:
        key = rms_norm_torch(key, k_norm, eps=eps)
    query, key = rotary_embedding(query, key, cos, sin)
    reshape_and_cache(
        key, value, key_cache, value_cache, slot_mapping, k_scale=k_scale, v_scale=v_scale
    )
    return query


def _check_shapes(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    slot_mapping: Tensor,
    head_dim: int,
    num_q_heads: int,
    num_kv_heads: int,
) -> None:
    num_tokens = qkv.shape[0]
    if head_dim % 2:
        raise ValueError(f"rope_and_cache: head_dim {head_dim} is odd; a rotation turns pairs")
    width = (num_q_heads + 2 * num_kv_heads) * head_dim
    if qkv.shape != (num_tokens, width):
        raise ValueError(
            f"rope_and_cache: qkv has shape {tuple(qkv.shape)}; {num_q_heads} query and"
            f" {num_kv_heads} key-value heads of {head_dim} need [num_tokens, {width}]"
        )
    for name, table in (("cos", cos), ("sin", sin)):
        if table.shape != (num_tokens, head_dim) or table.dtype != torch.float32:
            raise ValueError(
                f"rope_and_cache: {name} is {table.dtype} {tuple(table.shape)};"
                f" pass float32 ({num_tokens}, {head_dim})"
            )
    if slot_mapping.shape != (num_tokens,) or slot_mapping.dtype != torch.int64:
        raise ValueError(
            f"rope_and_cache: slot_mapping is {slot_mapping.dtype} {tuple(slot_mapping.shape)};"
            f" pass int64 ({num_tokens},)"
        )


def _check_cache(cache: Tensor, scale: Tensor | None, num_kv_heads: int) -> None:
    if cache.dim() != 4 or cache.shape[2] != num_kv_heads:
        raise ValueError(
            f"rope_and_cache: a cache has shape {tuple(cache.shape)};"
            f" pass [num_blocks, block_size, {num_kv_heads}, head_dim]"
        )
    if scale is None:
        return
    if scale.dtype != torch.float32 or scale.shape not in ((num_kv_heads,), cache.shape[:3]):
        raise ValueError(
            f"rope_and_cache: a scale is {scale.dtype} {tuple(scale.shape)}; pass float32, one"
            f" for each of {num_kv_heads} heads or one for each of {tuple(cache.shape[:3])}"
        )
    if scales_are_per_token(scale) and not is_quantized(cache.dtype):
        raise ValueError(
            f"rope_and_cache: a scale for each token needs an fp8 or int8 cache, not {cache.dtype}"
        )
