"""How a gated activation is cut into tiles, with and without quantization."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from .powers import next_power_of_two


@dataclass(frozen=True, slots=True, kw_only=True)
class SiluAndMulConfig:
    block: int
    chunks: int
    """Tiles of a row that one program takes."""
    num_warps: int


@cache
def silu_and_mul_config(dim: int, *, fp8: bool) -> SiluAndMulConfig:
    """Without codes each tile is a program: entries do not need each other. With them a program
    takes a row, as its largest entry decides the scale of all, and keeps it in registers.

    Measured on an H100 at 4,096 rows of 14,336 with codes: one tile of 16,384 in 16 warps took
    148 us and in 32 warps 134, as no second program fits a multiprocessor beside it; two tiles of
    8,192 in 16 warps take 98.
    """
    block = min(next_power_of_two(dim), 8192 if fp8 else 1024)
    if not fp8:
        return SiluAndMulConfig(block=block, chunks=1, num_warps=min(max(block // 256, 1), 4))
    chunks = -(-dim // block)
    warps = min(max(block // 512, 1), 16)
    return SiluAndMulConfig(block=block, chunks=chunks, num_warps=warps if chunks <= 4 else 32)
