"""The shape of a matrix product's programs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .gpu import Gpu


@dataclass(frozen=True, slots=True, kw_only=True)
class TileConfig:
    """Tiles of tokens (m), outputs (n) and the summed dimension (k), and how they are computed."""

    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int
    num_splits: int = 1
    """Programs that share a tile, each with its part of k; the sums are added in a fixed order."""
    swap: bool = False
    """Multiply weight @ x^T: the first operand of the matrix unit has 64 rows."""
    tma: bool = True
    """Load the weight by the tensor copy engine where its alignment allows that."""
    tma_x: bool = True
    """The same for the activations."""
    group_m: int = 8
    """Rows of tiles that are walked together."""
    imprecise: int | None = None
    """fp8: terms that the matrix unit sums in its own 14 bits before fp32 takes over; None: all."""
    fold_scales: bool = False
    """4-bit weights: multiply each weight by its scale in 16 bits, not each group's sum in fp32."""

    def stage_bytes(self, x_bytes: float, weight_bytes: float) -> int:
        """Shared memory of one stage, for entries of so many bytes."""
        entries = self.block_m * x_bytes + self.block_n * weight_bytes
        return int(entries * self.block_k)


STAGE_MARGIN = 2048
"""Bytes of shared memory beside the stages: barriers, and what layouts are exchanged through."""


def fitted(
    config: TileConfig, gpu: Gpu, *, x_bytes: float, weight_bytes: float, less: int = 0
) -> TileConfig:
    """The config with as many of its stages as fit, and the copy engine only where there is one.

    less: bytes that all stages together do without.
    """
    room = gpu.shared_memory_bytes - STAGE_MARGIN + less
    stages = min(config.num_stages, room // config.stage_bytes(x_bytes, weight_bytes))
    has_tma = gpu.capability >= (9, 0)
    return replace(
        config,
        num_stages=max(stages, 1),
        tma=config.tma and has_tma,
        tma_x=config.tma_x and has_tma,
    )


def splits(
    num_tiles: int, num_blocks: int, gpu: Gpu, *, per_sm: int, least_blocks: int, most: int = 8
) -> int:
    """Parts of k such that there are at most `per_sm` programs an SM, each with `least_blocks`."""
    room = per_sm * gpu.num_sms // max(num_tiles, 1)
    return max(min(room, num_blocks // least_blocks, most), 1)
