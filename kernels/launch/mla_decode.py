"""Tiles of MLA decode: heads and keys a program, and where the keys are split."""

from __future__ import annotations

from dataclasses import dataclass

from .gpu import Gpu

SPLIT_SIZE = 1024
"""Keys of a split. Fixed, so that a sequence's result does not depend on the rest of the batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MlaDecodeConfig:
    block_h: int
    """Query heads of a program: the rows of its tile."""
    block_n: int
    """Keys of a step."""
    num_warps: int
    num_stages: int
    split_size: int = SPLIT_SIZE


def mla_decode_config(gpu: Gpu, *, num_heads: int, element_bytes: int) -> MlaDecodeConfig:
    """Tiles whose queries and key stages fit the shared memory of a program.

    A key of 576 numbers takes 1,152 bytes in bf16: 64 query heads and two stages of 64 keys are
    216 KiB, what an H100 has; a smaller GPU gets 16 heads and 32 keys (36 KiB + 2 * 36 KiB).
    """
    if element_bytes > 2:
        return MlaDecodeConfig(block_h=16, block_n=16, num_warps=4, num_stages=1)
    if gpu.shared_memory_bytes < 200_000 or num_heads <= 16:
        return MlaDecodeConfig(block_h=16, block_n=32, num_warps=4, num_stages=2)
    return MlaDecodeConfig(block_h=64, block_n=64, num_warps=8, num_stages=2)
