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
        stages = 3 if gpu.shared_memory_bytes >= 160_000 else 2
        return MlaDecodeConfig(block_h=16, block_n=32, num_warps=4, num_stages=stages)
    return MlaDecodeConfig(block_h=64, block_n=64, num_warps=8, num_stages=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class HopperMlaDecode:
    """The launch of the body written for Hopper: the cache as a matrix, and boxes of its rows."""

    num_rows: int
    row_stride: int
    """Elements from one row to the next."""
    block_rows: int
    """Block b begins at row b * block_rows."""
    rows: int
    """Rows of a box of the copy engine."""
    split_size: int = SPLIT_SIZE


def hopper_mla_decode(
    gpu: Gpu,
    *,
    num_heads: int,
    value_dim: int,
    element_bytes: int,
    cache_shape: tuple[int, ...],
    cache_strides: tuple[int, ...],
) -> HopperMlaDecode | None:
    """None: not for this body, or its copy engine cannot read the cache.

    It is made for 512 + 64 numbers and tiles of 64 heads. With 32 heads half of a tile is empty,
    and still it takes 259 us where the body of all GPUs takes 344; with 16 they are equal.
    """
    num_blocks, block_size, key_dim = cache_shape
    block_stride, row_stride, element_stride = cache_strides
    fits = (
        gpu.capability[0] == 9
        and gpu.shared_memory_bytes >= 230_400
        and (key_dim, value_dim, element_bytes) == (576, 512, 2)
        and num_heads > 16
        and block_size % 16 == 0
        and element_stride == 1
        and row_stride % 8 == 0
        and row_stride >= key_dim
        and block_stride % row_stride == 0
    )
    if not fits:
        return None
    block_rows = block_stride // row_stride
    return HopperMlaDecode(
        num_rows=(num_blocks - 1) * block_rows + block_size,
        row_stride=row_stride,
        block_rows=block_rows,
        rows=32 if block_size % 32 == 0 else 16,
    )
