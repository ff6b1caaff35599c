"""How the rows of a gather are cut into tiles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from .powers import next_power_of_two


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherRowsConfig:
    block: int
    num_warps: int


@cache
def gather_rows_config(dim: int) -> GatherRowsConfig:
    """One program a row of up to 4,096 entries: four loads of 16 bytes a thread in flight."""
    block = min(next_power_of_two(dim), 4096)
    return GatherRowsConfig(block=block, num_warps=min(max(block // 1024, 1), 4))
