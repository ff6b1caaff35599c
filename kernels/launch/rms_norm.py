"""How many rows a program of the RMS norm takes, and with how many warps."""

from __future__ import annotations

from dataclasses import dataclass

from .gpu import Gpu
from .powers import next_power_of_two

TILE = 2048
"""Entries of short rows that one program takes together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RmsNormLaunch:
    rows: int
    block: int
    num_warps: int

    @property
    def constants(self) -> dict[str, int]:
        return {"ROWS": self.rows, "BLOCK": self.block, "num_warps": self.num_warps}


def rms_norm_launch(num_rows: int, dim: int, gpu: Gpu) -> RmsNormLaunch:
    """A row is one tile; short rows share a program while every multiprocessor has one."""
    block = next_power_of_two(dim)
    spread = next_power_of_two(-(-num_rows // gpu.num_sms))
    rows = min(max(TILE // block, 1), spread)
    # 16 entries a thread: two loads of 16 bytes of each bf16 tensor in flight.
    warps = min(max(rows * block // (32 * 16), 1), 16)
    return RmsNormLaunch(rows=rows, block=block, num_warps=warps)
