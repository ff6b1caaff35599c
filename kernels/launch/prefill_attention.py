"""Which attention calls the prefill path takes, and with which tiles."""

from __future__ import annotations

from dataclasses import dataclass

from .gpu import Gpu

MIN_QUERY_LEN = 256
"""Chunks below this are left to the general kernel: a tile of 128 queries would be part empty."""


def prefill_path_takes(
    gpu: Gpu,
    *,
    max_query_len: int,
    head_dim: int,
    block_size: int,
    element_bytes: int,
    plain: bool,
) -> bool:
    """Whether the requests with `MIN_QUERY_LEN` tokens or more are for `prefill_attention`.

    `plain`: the cache has the dtype of the queries, and there is no sliding window, soft-cap or
    sink. `max_query_len` is a bound of the step: when it is smaller there is nothing to launch.
    """
    return (
        plain
        and max_query_len >= MIN_QUERY_LEN
        and hopper_body_takes(
            gpu, head_dim=head_dim, block_size=block_size, element_bytes=element_bytes
        )
    )


def hopper_body_takes(gpu: Gpu, *, head_dim: int, block_size: int, element_bytes: int) -> bool:
    """Whether the body written for Hopper's matrix units and copy engine can compute this.

    A block is one box of the copy engine: at least the 8 rows of its swizzle, at most a key tile.
    """
    return (
        gpu.capability[0] == 9
        and head_dim == 128
        and element_bytes == 2
        and block_size in (8, 16, 32, 64, 128)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillConfig:
    """Tiles of the body that runs on every GPU."""

    block_m: int
    """Queries of a tile."""
    block_n: int
    """Keys of a step."""
    num_warps: int
    num_stages: int


def prefill_config(gpu: Gpu, *, head_dim: int, element_bytes: int) -> PrefillConfig:
    """128 queries where they and two stages of keys and values fit the shared memory."""
    if element_bytes > 2:
        return PrefillConfig(block_m=32, block_n=32, num_warps=4, num_stages=1)
    if head_dim > 128 or gpu.shared_memory_bytes < 160_000:
        return PrefillConfig(block_m=64, block_n=32, num_warps=4, num_stages=2)
    return PrefillConfig(block_m=128, block_n=64, num_warps=8, num_stages=3)
