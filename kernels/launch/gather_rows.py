"""How the rows of a gather are cut into tiles."""

from __future__ import annotations

from dataclasses import dataclass

from .powers import next_power_of_two


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherRowsLaunch:
    block: int
    num_warps: int

    @property
    def constants(self) -> dict[str, int]:
        return {"BLOCK": self.block, "num_warps": self.num_warps}


def gather_rows_launch(dim: int) -> GatherRowsLaunch:
    block = min(next_power_of_two(dim), 2048)
    return GatherRowsLaunch(block=block, num_warps=min(max(block // 512, 1), 4))
