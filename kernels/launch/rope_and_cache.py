"""How many tokens and heads a program of `rope_and_cache` takes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from .powers import next_power_of_two

TILE = 1024
"""Entries that a program rotates together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeAndCacheConfig:
    tokens: int
    heads: int
    """Heads of a tile: all of queries, of keys or of values, the last tile of each part empty."""
    half: int
    """Half of head_dim, rounded up to a power of two."""
    num_warps: int


@cache
def rope_and_cache_config(num_kv_heads: int, head_dim: int) -> RopeAndCacheConfig:
    """A tile's heads never straddle queries, keys and values.

    The number of tokens has no say: no new program for a new batch size. Measured on an H100 in
    Llama-3.1-8B's shape: 1 to 16 tokens a program are within 2 % at 4,096 tokens, and one token in
    two warps is the fastest at 64.
    """
    half = next_power_of_two(head_dim // 2)
    heads = min(next_power_of_two(num_kv_heads), max(TILE // (2 * half), 1))
    tokens = max(TILE // (2 * half * heads), 1)
    warps = min(max(tokens * heads * half // (32 * 8), 1), 8)
    return RopeAndCacheConfig(tokens=tokens, heads=heads, half=half, num_warps=warps)
