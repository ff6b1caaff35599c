"""How a gated activation is cut into tiles, with and without quantization."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from .powers import next_power_of_two


@dataclass(frozen=True, slots=True, kw_only=True)
class SiluAndMulLaunch:
    block: int
    chunks: int
    """Tiles of a row that one program takes."""
    num_warps: int


@cache
def silu_and_mul_launch(dim: int, *, fp8: bool) -> SiluAndMulLaunch:
    """Without codes each tile is a program: entries do not need each other. With them a program
    takes a row, as its largest entry decides the scale of all, and keeps it in registers.
    """
    block = min(next_power_of_two(dim), 2048 if fp8 else 1024)
    warps = min(max(block // 256, 1), 8)
    if not fp8:
        return SiluAndMulLaunch(block=block, chunks=1, num_warps=warps)
    while -(-dim // block) > 8:  # 16,384 entries: beyond it more threads, not more registers
        block, warps = 2 * block, min(2 * warps, 32)
    return SiluAndMulLaunch(block=block, chunks=-(-dim // block), num_warps=warps)
