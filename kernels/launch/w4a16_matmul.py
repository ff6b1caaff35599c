"""How `w4a16_matmul` is launched: by tables measured on an H100 (docs/performance/gpu.md)."""

from __future__ import annotations

from .gpu import Gpu
from .tile_config import TileConfig, fitted, splits

BLOCK_K = 256
"""Entries that `int4_weight` packs together: the one step along k there is."""
MANY_TOKENS = 1024
"""From here on the weight is first dequantized to memory, and the library multiplies: the trip of
the weight costs less than what the library's product is faster."""
FOLDED_TOKENS = 32
"""Above, scales are multiplied into the weights in registers: sums of groups beside those of the
tile would leave too few registers."""
X_BYTES, WEIGHT_BYTES = 2, 0.5


def w4a16_matmul_config(num_tokens: int, out_dim: int, dim: int, gpu: Gpu) -> TileConfig:
    """Tiles for [num_tokens, dim] x [out_dim, dim]^T, num_tokens below MANY_TOKENS."""
    if num_tokens <= 64:
        block_m = next(size for size in (8, 16, 32, 64) if num_tokens <= size)
        tiles = -(-out_dim // 64)
        config = TileConfig(
            block_m=block_m,
            block_n=64,
            block_k=BLOCK_K,
            num_warps=4,
            num_stages=3,
            num_splits=splits(tiles, -(-dim // BLOCK_K), gpu, per_sm=2, least_blocks=4),
            swap=True,
            tma=False,
            tma_x=False,
            fold_scales=block_m > FOLDED_TOKENS,
        )
    else:
        config = TileConfig(
            block_m=128, block_n=128, block_k=BLOCK_K, num_warps=8, num_stages=3, swap=True
        )
    return fitted(config, gpu, x_bytes=X_BYTES, weight_bytes=WEIGHT_BYTES)
