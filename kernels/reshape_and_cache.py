"""Write the keys and values of a step into their slots, in the cache's own type."""

from __future__ import annotations

import torch
from torch import Tensor

from .kv_quantization import dynamic_scales_torch, encode_torch, scales_are_per_token


def reshape_and_cache(
    key: Tensor,
    value: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    slot_mapping: Tensor,
    *,
    k_scale: Tensor | None = None,
    v_scale: Tensor | None = None,
) -> None:
    """Scatter K and V to the paged cache, in place; torch only, see `rope_and_cache` for a GPU's.

    key, value: [num_tokens, num_kv_heads, head_dim]; caches: `kv_cache_shape`, of any strides;
    slot_mapping: [num_tokens] int64, slot = block_id * block_size + offset, -1: not written;
    k_scale, v_scale: None, [num_kv_heads], or [num_blocks, block_size, num_kv_heads], which is
    computed and written too (see `kv_quantization`).
    """
    written = slot_mapping >= 0
    slots = slot_mapping[written]
    _write(key[written], key_cache, slots, k_scale)
    _write(value[written], value_cache, slots, v_scale)


def _write(new: Tensor, cache: Tensor, slots: Tensor, scale: Tensor | None) -> None:
    places = (slots // cache.shape[1], slots % cache.shape[1])
    of_tokens = scale
    if scale is not None and scales_are_per_token(scale):
        of_tokens = dynamic_scales_torch(new, cache.dtype)
        scale.index_put_(places, of_tokens)
    codes = encode_torch(new, of_tokens, cache.dtype)
    if cache.dtype.itemsize == 1:  # torch does not scatter fp8
        codes, cache = codes.view(torch.uint8), cache.view(torch.uint8)
    cache.index_put_(places, codes)
