"""How many tokens and heads a program of `rope_and_cache` takes."""

from __future__ import annotations

from dataclasses import dataclass

from .gpu import Gpu
from .powers import next_power_of_two

TILE = 4096
"""Entries that a program rotates together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeAndCacheLaunch:
    tokens: int
    heads: int
    """Heads of a tile: all of queries, of keys or of values, the last tile of each part empty."""
    half: int
    """Half of head_dim, rounded up to a power of two."""
    num_warps: int

    @property
    def constants(self) -> dict[str, int]:
        return {
            "TOKENS": self.tokens,
            "HEADS": self.heads,
            "HALF": self.half,
            "num_warps": self.num_warps,
        }


def rope_and_cache_launch(
    num_tokens: int, num_q_heads: int, num_kv_heads: int, head_dim: int, gpu: Gpu
) -> RopeAndCacheLaunch:
    """A tile's heads never straddle queries, keys and values; its tokens fill it up."""
    half = next_power_of_two(head_dim // 2)
    heads = min(next_power_of_two(num_kv_heads), max(TILE // (2 * half), 1))
    spread = next_power_of_two(-(-num_tokens // gpu.num_sms))
    tokens = min(max(TILE // (2 * half * heads), 1), spread)
    warps = min(max(tokens * heads * half // (32 * 16), 1), 8)
    return RopeAndCacheLaunch(tokens=tokens, heads=heads, half=half, num_warps=warps)
