"""How `moe_mlp` is launched: by tables measured on an H100 (docs/performance/gpu.md)."""

from __future__ import annotations

from dataclasses import dataclass

from .gpu import Gpu
from .tile_config import TileConfig, fitted
from .w4a16_matmul import BLOCK_K, fitted_int4
from .w8a8_matmul import PROMOTED

FEW_TOKENS = 32
"""Tokens of an expert, on average, up to which the bytes of its weight bind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeConfig:
    """Both products have the same `block_m`: they share one sorting of the tokens."""

    gate_up: TileConfig
    """Of two weights at once: gate and up."""
    down: TileConfig


def moe_config(
    *, num_tokens: int, top_k: int, num_experts: int, weight_bytes: int, gpu: Gpu
) -> MoeConfig:
    """Tiles for num_tokens * top_k rows over num_experts weights; weight_bytes: of one entry."""
    tokens = num_tokens * top_k / num_experts
    if tokens <= FEW_TOKENS:
        tile = TileConfig(
            block_m=16 if tokens <= 8 else 32,
            block_n=64,
            block_k=256 // weight_bytes,
            num_warps=4,
            num_stages=3,
            swap=True,
            group_m=1,
            imprecise=PROMOTED,
        )
    else:
        tile = TileConfig(
            block_m=64 if tokens <= 64 else 128,
            block_n=128,
            block_k=128 // weight_bytes,
            num_warps=8,
            num_stages=3,
        )
    return MoeConfig(
        gate_up=fitted(tile, gpu, x_bytes=weight_bytes, weight_bytes=2 * weight_bytes),
        down=fitted(tile, gpu, x_bytes=weight_bytes, weight_bytes=weight_bytes),
    )


def moe_int4_config(*, num_tokens: int, top_k: int, num_experts: int, gpu: Gpu) -> MoeConfig:
    """The same for experts of 4 bits, whose blocks along the summed dimension are 256 entries."""
    tokens = num_tokens * top_k / num_experts
    if tokens <= FEW_TOKENS:
        tile = TileConfig(
            block_m=16 if tokens <= 8 else 32,
            block_n=64,
            block_k=BLOCK_K,
            num_warps=4,
            num_stages=3,
            swap=True,
            group_m=1,
        )
    else:
        tile = TileConfig(
            block_m=64 if tokens <= 64 else 128,
            block_n=128,
            block_k=BLOCK_K,
            num_warps=8,
            num_stages=2,
            swap=True,
            fold_scales=True,
        )
    return MoeConfig(gate_up=fitted_int4(tile, gpu, num_weights=2), down=fitted_int4(tile, gpu))
