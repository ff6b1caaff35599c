"""How the routing of tokens to experts is launched."""

from __future__ import annotations

from dataclasses import dataclass

from .powers import next_power_of_two

SMALL_PAIRS = 128
"""Up to here one program sorts everything, in one launch. With 512 pairs it took 33 us on an H100,
two launches of 4 programs a fifth of that."""
CHUNK = 128
"""Pairs that a program counts, then places, where there are more."""
MANY_PAIRS = 4096
"""From here on chunks are twice as long: each program reads the counts of all chunks."""
MIN_EXPERTS = 32
"""Bins of a histogram: at least one for each lane of a warp."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopkConfig:
    tokens: int
    """Tokens of a program."""
    experts: int
    """Experts, as a power of two."""
    num_warps: int


RESIDENT_PROGRAMS = 4096
"""Programs of one warp that run at a time: 32 on each SM of an H100, nearly."""


def topk_config(num_tokens: int, num_experts: int) -> TopkConfig:
    """A warp for each token while all run at once: its top_k rounds are one after the other, so
    tokens that share a warp wait for each other."""
    experts = next_power_of_two(num_experts)
    tokens = next_power_of_two(-(-num_tokens // RESIDENT_PROGRAMS))
    tokens = max(min(tokens, 1024 // experts), 1)
    return TopkConfig(
        tokens=tokens, experts=experts, num_warps=min(max(tokens * experts // 1024, 1), 8)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PermuteConfig:
    chunk: int
    """Pairs of a program."""
    chunks: int
    """Chunks whose counts are added at a time: a tile [chunks, experts]."""
    experts: int
    strip: int
    """Pairs that all of a chunk are compared with at a time."""
    num_warps: int


def permute_config(num_pairs: int, num_experts: int) -> PermuteConfig:
    """One program for few pairs; else chunks, counted by one launch and placed by another."""
    experts = max(next_power_of_two(num_experts), MIN_EXPERTS)
    chunk = CHUNK if num_pairs < MANY_PAIRS else 2 * CHUNK
    if num_pairs <= SMALL_PAIRS:
        chunk = max(next_power_of_two(num_pairs), 32)
    return PermuteConfig(
        chunk=chunk,
        chunks=max(8192 // experts, 1),
        experts=experts,
        strip=32,
        num_warps=8 if chunk > 128 else 4,
    )
