"""How a gated activation is cut into tiles, with and without quantization."""

from __future__ import annotations

from dataclasses import dataclass

from .powers import next_power_of_two


@dataclass(frozen=True, slots=True, kw_only=True)
class SiluAndMulLaunch:
    block: int
    num_warps: int

    @property
    def constants(self) -> dict[str, int]:
        return {"BLOCK": self.block, "num_warps": self.num_warps}


def silu_and_mul_launch(num_rows: int, dim: int) -> SiluAndMulLaunch:
    """Tiles of a row, any number of them: entries do not need each other."""
    block = min(next_power_of_two(dim), 1024)
    return SiluAndMulLaunch(block=block, num_warps=min(max(block // 256, 1), 4))


def silu_and_mul_fp8_launch(num_rows: int, dim: int) -> SiluAndMulLaunch:
    """A whole row, kept in registers: its largest entry decides the scale of all."""
    block = next_power_of_two(dim)
    return SiluAndMulLaunch(block=block, num_warps=min(max(block // (32 * 32), 1), 32))
