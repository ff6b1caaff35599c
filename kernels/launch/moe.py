"""How `moe_mlp` is launched."""

from __future__ import annotations

from dataclasses import dataclass

from .gpu import Gpu
from .tile_config import TileConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeConfig:
    """Both products have the same `block_m`: they share one sorting of the tokens."""

    gate_up: TileConfig
    down: TileConfig


def moe_config(
    *,
    num_tokens: int,
    top_k: int,
    num_experts: int,
    dim: int,
    inner: int,
    weight_bytes: int,
    gpu: Gpu,
) -> MoeConfig:
    """Tiles for num_tokens * top_k rows over num_experts weights; weight_bytes: of one entry."""
    tile = TileConfig(
        block_m=16, block_n=64, block_k=128 // weight_bytes, num_warps=4, num_stages=4, swap=True
    )
    return MoeConfig(gate_up=tile, down=tile)


def moe_int4_config(*, num_tokens: int, top_k: int, num_experts: int, gpu: Gpu) -> MoeConfig:
    """The same for experts of 4 bits, whose blocks along the summed dimension are 256 entries."""
    tile = TileConfig(block_m=16, block_n=64, block_k=256, num_warps=4, num_stages=3, swap=True)
    return MoeConfig(gate_up=tile, down=tile)
