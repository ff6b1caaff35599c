"""How the bytes of blocks are spread over programs."""

from __future__ import annotations

from dataclasses import dataclass

from .powers import next_power_of_two

TILE_BYTES = 8192
"""What a program has in flight at once. Measured on an H100: 4 to 32 KB are the same."""
BUS_TILE_BYTES = 16_384
BUS_PROGRAMS = 16
"""Enough bytes in flight for the bus: with 16 to 132 programs an H100 moves 50 to 52 GB/s of the 55
of one large copy. The other multiprocessors go on computing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyBlocksConfig:
    word_bytes: int
    """Width of a word; every address, stride and size is a multiple of it."""
    block: int
    """Words of a tile."""
    num_programs: int
    """Programs; each goes through tiles until all are copied."""
    num_warps: int


def copy_blocks_config(
    block_bytes: int, num_blocks: int, alignment: int, *, over_the_bus: bool
) -> CopyBlocksConfig:
    """num_blocks: of all tensors together; alignment: divides every address and stride, bytes."""
    word = max(w for w in (8, 4, 2, 1) if block_bytes % w == 0 and alignment % w == 0)
    tile_bytes = BUS_TILE_BYTES if over_the_bus else TILE_BYTES
    tile = min(next_power_of_two(block_bytes // word), tile_bytes // word)
    num_tiles = num_blocks * -(-(block_bytes // word) // tile)
    return CopyBlocksConfig(
        word_bytes=word,
        block=tile,
        num_programs=min(num_tiles, BUS_PROGRAMS) if over_the_bus else num_tiles,
        num_warps=min(max(tile * word // 1024, 1), 8),
    )
