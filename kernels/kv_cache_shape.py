"""The one place that knows how the paged KV cache is laid out."""

from __future__ import annotations


def kv_cache_shape(
    num_blocks: int, block_size: int, num_kv_heads: int, head_dim: int
) -> tuple[int, int, int, int]:
    """Shape of a layer's key cache, and of its value cache.

    A slot (`block_id * block_size + offset`) is one contiguous row of all heads, so writing a
    token is one copy and gathering a block is one as well.
    """
    return (num_blocks, block_size, num_kv_heads, head_dim)
