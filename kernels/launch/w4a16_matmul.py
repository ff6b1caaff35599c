"""How `w4a16_matmul` is launched."""

from __future__ import annotations

from .gpu import Gpu
from .tile_config import TileConfig


def w4a16_matmul_config(num_tokens: int, out_dim: int, dim: int, gpu: Gpu) -> TileConfig:
    """Tiles for [num_tokens, dim] x [out_dim, dim]^T."""
    return TileConfig(block_m=16, block_n=64, block_k=256, num_warps=4, num_stages=4, swap=True)
