"""How `quantize_rows` is launched."""

from __future__ import annotations

from dataclasses import dataclass

from .powers import next_power_of_two

MAX_BLOCK = 8192
"""Entries of a row that a program holds in registers; 32 a thread with 8 warps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeRowsConfig:
    block: int
    num_warps: int


def quantize_rows_config(dim: int) -> QuantizeRowsConfig:
    """A row at once where it fits; 8 to 32 entries a thread."""
    block = min(max(next_power_of_two(dim), 128), MAX_BLOCK)
    return QuantizeRowsConfig(block=block, num_warps=min(max(block // 512, 1), 8))
