"""How the bytes of blocks are spread over programs."""

from __future__ import annotations

from dataclasses import dataclass

from .powers import next_power_of_two

TILE_BYTES = 8192
"""What a program has in flight at once."""
HOST_PROGRAMS = 32
"""Enough bytes in flight for the bus; the other multiprocessors go on computing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyBlocksLaunch:
    word_bytes: int
    """Width of a word; every address, stride and size is a multiple of it."""
    block: int
    """Words of a tile."""
    num_programs: int
    """Programs; each goes through tiles until all are copied."""
    num_warps: int


def copy_blocks_launch(
    block_bytes: int, num_blocks: int, alignment: int, *, over_the_bus: bool
) -> CopyBlocksLaunch:
    """num_blocks: of all tensors together; alignment: divides every address and stride, bytes."""
    word = max(w for w in (8, 4, 2, 1) if block_bytes % w == 0 and alignment % w == 0)
    tile = min(next_power_of_two(block_bytes // word), TILE_BYTES // word)
    num_tiles = num_blocks * -(-(block_bytes // word) // tile)
    return CopyBlocksLaunch(
        word_bytes=word,
        block=tile,
        num_programs=min(num_tiles, HOST_PROGRAMS) if over_the_bus else num_tiles,
        num_warps=min(max(tile * word // 1024, 1), 8),
    )
