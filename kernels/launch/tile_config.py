"""The shape of a matrix product's programs."""

from __future__ import annotations

from dataclasses import dataclass


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
