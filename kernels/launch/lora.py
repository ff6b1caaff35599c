"""How `add_lora` is launched."""

from __future__ import annotations

from dataclasses import dataclass

from .gpu import Gpu


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraConfig:
    num_splits: int
    """Programs that share one shrunk tile, each with its part of dim."""
    block_k: int
    """Entries of dim that a shrinking program reads at a time."""
    block_n: int
    """Outputs of an expanding program."""
    shrink_warps: int = 4
    shrink_stages: int = 3
    expand_warps: int = 4


def lora_config(
    *, max_blocks: int, num_slices: int, max_rank: int, dim: int, gpu: Gpu
) -> LoraConfig:
    """Enough splits of dim that the shrinking programs fill the device, two on each SM."""
    block_k = 256 if max_rank <= 32 else 128
    most_splits = -(-dim // block_k)
    wanted = 2 * gpu.num_sms // max(max_blocks * num_slices, 1)
    return LoraConfig(num_splits=max(min(wanted, most_splits, 8), 1), block_k=block_k, block_n=128)
