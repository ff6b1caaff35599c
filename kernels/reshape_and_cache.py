"""Write the keys and values of a step into their slots."""

from __future__ import annotations

from torch import Tensor


def reshape_and_cache(
    key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slot_mapping: Tensor
) -> None:
    """Scatter K and V to the paged cache, in place.

    key, value: [num_tokens, num_kv_heads, head_dim]; caches: `kv_cache_shape`;
    slot_mapping: [num_tokens] int64, slot = block_id * block_size + offset. Moves
    2 * num_tokens * num_kv_heads * head_dim elements, read and written once.
    """
    num_tokens = key.shape[0]
    num_slots = key_cache.shape[0] * key_cache.shape[1]
    for new, cache in ((key, key_cache), (value, value_cache)):
        rows = cache.view(num_slots, -1)
        rows.index_copy_(0, slot_mapping, new.reshape(num_tokens, -1).to(cache.dtype))
