"""How `w8a8_matmul` is launched: by tables measured on an H100 (docs/performance/gpu.md)."""

from __future__ import annotations

from .gpu import Gpu
from .tile_config import TileConfig, fitted, splits

FEW_TOKENS = 64
"""Up to here the bytes of the weight bind; its rows are the matrix unit's first operand."""
PROMOTED = 128
"""Terms that few tokens' fp8 products sum in the matrix unit's 14 bits: the additions in fp32 are
free beside the loads."""


def w8a8_matmul_config(
    num_tokens: int, out_dim: int, dim: int, gpu: Gpu, *, is_fp32_out: bool = False
) -> TileConfig:
    """Tiles for [num_tokens, dim] x [out_dim, dim]^T.

    An output in fp32 shows what the matrix unit's own fp8 sums lose: there they are not used
    (`imprecise` 0), and the products are those of fp16.
    """
    if num_tokens <= FEW_TOKENS:
        config = _few_tokens(num_tokens, out_dim, dim, gpu)
    else:
        config = _many_tokens(num_tokens, out_dim, dim, gpu)
    if is_fp32_out:
        config = TileConfig(
            block_m=config.block_m, block_n=64, block_k=128, num_warps=4, num_stages=3,
            swap=config.swap, imprecise=0,
        )  # fmt: skip
    return fitted(config, gpu, x_bytes=1, weight_bytes=1)


def _few_tokens(num_tokens: int, out_dim: int, dim: int, gpu: Gpu) -> TileConfig:
    """64 outputs a program. Where that makes fewer programs than SMs, each has 8 stages in flight,
    and k is split."""
    block_m = next(size for size in (16, 32, 64) if num_tokens <= size)
    tiles = -(-out_dim // 64)
    if tiles >= gpu.num_sms:
        block_k, num_stages, num_splits = (256, 4, 1) if block_m <= 32 else (128, 5, 1)
    else:
        block_k, num_stages = 128, 8
        # With 64 tokens the sums of two splits are as many bytes as the weight of 4096 inputs.
        least = 16 if block_m <= 32 else 32
        num_splits = splits(tiles, -(-dim // block_k), gpu, per_sm=1, least_blocks=least)
    return TileConfig(
        block_m=block_m,
        block_n=64,
        block_k=block_k,
        num_warps=4,
        num_stages=num_stages,
        num_splits=num_splits,
        swap=True,
        tma=False,
        tma_x=False,
        imprecise=PROMOTED,
    )


def _many_tokens(num_tokens: int, out_dim: int, dim: int, gpu: Gpu) -> TileConfig:
    """The largest of three tiles that still gives about every SM one of them."""

    def tiles(block_n: int) -> int:
        return -(-num_tokens // 128) * -(-out_dim // block_n)

    # One row of tiles is bound by the weight's bytes still: smaller tiles, more of them in flight.
    if num_tokens > 128 and tiles(256) >= 0.7 * gpu.num_sms:
        return TileConfig(
            block_m=128, block_n=256, block_k=128, num_warps=8, num_stages=3, group_m=16
        )
    if tiles(128) >= 0.7 * gpu.num_sms:
        return TileConfig(block_m=128, block_n=128, block_k=128, num_warps=8, num_stages=4)
    return TileConfig(
        block_m=128,
        block_n=64,
        block_k=128,
        num_warps=4,
        num_stages=5,
        num_splits=splits(tiles(64), -(-dim // 128), gpu, per_sm=1, least_blocks=32),
    )
