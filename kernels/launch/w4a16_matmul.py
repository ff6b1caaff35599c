"""How `w4a16_matmul` is launched: by tables measured on an H100 (docs/performance/gpu.md)."""

from __future__ import annotations

from .gpu import Gpu
from .tile_config import TileConfig, fitted, splits

BLOCK_K = 256
"""Entries that `int4_weight` packs together: the one step along k there is."""
MANY_TOKENS = 1024
"""From here on the weight is first dequantized to memory, and the library multiplies: the trip of
the weight costs less than what the library's product is faster."""
X_BYTES, WEIGHT_BYTES = 2, 0.5


def w4a16_matmul_config(num_tokens: int, out_dim: int, dim: int, gpu: Gpu) -> TileConfig:
    """Tiles for [num_tokens, dim] x [out_dim, dim]^T, num_tokens below MANY_TOKENS."""
    blocks = -(-dim // BLOCK_K)
    if num_tokens <= 64:
        config = _few_tokens(num_tokens, out_dim, blocks, gpu)
    else:
        tiles = -(-num_tokens // 128) * -(-out_dim // 128)
        config = TileConfig(
            block_m=128,
            block_n=128,
            block_k=BLOCK_K,
            num_warps=8,
            num_stages=3,
            num_splits=splits(tiles, blocks, gpu, per_sm=1, least_blocks=4),
            swap=True,
        )
    return fitted_int4(config, gpu)


def fitted_int4(config: TileConfig, gpu: Gpu, *, num_weights: int = 1) -> TileConfig:
    """`fitted` for a tile of x and of `num_weights` weights. The last quarter of x in a block is
    used at its end, and has one buffer less than there are stages."""
    return fitted(
        config,
        gpu,
        x_bytes=X_BYTES,
        weight_bytes=num_weights * WEIGHT_BYTES,
        less=config.block_m * config.block_k * X_BYTES // 4,
    )


def _few_tokens(num_tokens: int, out_dim: int, blocks: int, gpu: Gpu) -> TileConfig:
    """As many programs as SMs have room for: unpacking takes its time, and others load meanwhile.

    With two warps the products are those of Ampere's matrix unit (mma), which a warp issues and
    does not wait for; with four those of Hopper's (wgmma), whose second operand all warps share.
    """
    tiles = -(-out_dim // 64)
    is_wide = tiles >= 2 * gpu.num_sms
    block_m = next(size for size in (8, 16, 32, 64) if num_tokens <= size)
    block_n, num_warps, num_stages, fold, per_sm = {
        8: (32, 2, 4, False, 1) if is_wide else (64, 4, 3, False, 3),
        16: (64, 2, 3, False, 3),
        32: (128, 8, 3, False, 1) if is_wide else (64, 4, 3, True, 3),
        64: (128, 8, 2, True, 1) if is_wide else (64, 4, 3, True, 2),
    }[block_m]
    return TileConfig(
        block_m=block_m,
        block_n=block_n,
        block_k=BLOCK_K,
        num_warps=num_warps,
        num_stages=num_stages,
        num_splits=splits(tiles, blocks, gpu, per_sm=per_sm, least_blocks=4, most=4),
        swap=True,
        tma=False,
        tma_x=False,
        fold_scales=fold,
    )
