"""Tiles of the matrix products, as tables and as bounds that hold for every shape."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from shoal.kernels.int4_weight import BLOCK_ELEMENTS
from shoal.kernels.launch.gpu import H100, Gpu
from shoal.kernels.launch.moe import moe_config, moe_int4_config
from shoal.kernels.launch.tile_config import STAGE_MARGIN, TileConfig, fitted, splits
from shoal.kernels.launch.w4a16_matmul import BLOCK_K, MANY_TOKENS, w4a16_matmul_config
from shoal.kernels.launch.w8a8_matmul import w8a8_matmul_config

A100 = Gpu(capability=(8, 0), num_sms=108, shared_memory_bytes=166_912)
L4 = Gpu(capability=(8, 9), num_sms=58, shared_memory_bytes=101_376)
GPUS = [H100, A100, L4]
TOKENS = [1, 8, 9, 16, 17, 32, 33, 64, 65, 256, 257, 1023, 4096]
LAYERS = [(1, 1), (48, 8192), (1024, 4096), (4096, 4096), (4096, 14_336), (28_672, 4096)]


def is_power_of_two(n: int) -> bool:
    return n > 0 and n & (n - 1) == 0


def check(
    config: TileConfig, gpu: Gpu, *, x_bytes: float, weight_bytes: float, less: int = 0
) -> None:
    """What Triton and the device ask of every tile."""
    for size in (config.block_m, config.block_n, config.block_k, config.num_warps):
        assert is_power_of_two(size)
    assert config.block_k >= 32  # the least of an 8-bit matrix product
    assert config.num_stages >= 1
    stages = config.num_stages * config.stage_bytes(x_bytes, weight_bytes)
    assert stages - less + STAGE_MARGIN <= gpu.shared_memory_bytes
    if gpu.capability < (9, 0):
        assert not config.tma
        assert not config.tma_x


def check_int4(config: TileConfig, gpu: Gpu, *, weight_bytes: float = 0.5) -> None:
    quarter_of_x = config.block_m * BLOCK_K // 4 * 2
    check(config, gpu, x_bytes=2, weight_bytes=weight_bytes, less=quarter_of_x)


@pytest.mark.parametrize("gpu", GPUS)
def test_8_bit_tiles_fit(gpu) -> None:
    for num_tokens, (out_dim, dim) in product(TOKENS, LAYERS):
        config = w8a8_matmul_config(num_tokens, out_dim, dim, gpu)
        check(config, gpu, x_bytes=1, weight_bytes=1)
        assert config.num_splits <= -(-dim // config.block_k)
        assert config.swap == (num_tokens <= 64)


@pytest.mark.parametrize("gpu", GPUS)
def test_4_bit_tiles_fit(gpu) -> None:
    for num_tokens, (out_dim, dim) in product(TOKENS, LAYERS):
        config = w4a16_matmul_config(min(num_tokens, MANY_TOKENS - 1), out_dim, dim, gpu)
        check_int4(config, gpu)
        assert config.block_k == BLOCK_K == BLOCK_ELEMENTS
        assert config.num_splits <= -(-dim // BLOCK_K)
        assert config.swap  # floats that come from registers are the first operand


@pytest.mark.parametrize("gpu", GPUS)
def test_expert_tiles_fit(gpu) -> None:
    for num_tokens, num_experts in product(TOKENS, (1, 8, 128, 256)):
        for weight_bytes in (1, 2):
            config = moe_config(
                num_tokens=num_tokens, top_k=1, num_experts=num_experts,
                weight_bytes=weight_bytes, gpu=gpu,
            )  # fmt: skip
            check(config.gate_up, gpu, x_bytes=weight_bytes, weight_bytes=2 * weight_bytes)
            check(config.down, gpu, x_bytes=weight_bytes, weight_bytes=weight_bytes)
            assert config.gate_up.block_m == config.down.block_m
        int4 = moe_int4_config(num_tokens=num_tokens, top_k=1, num_experts=num_experts, gpu=gpu)
        check_int4(int4.gate_up, gpu, weight_bytes=1)
        check_int4(int4.down, gpu)
        assert int4.gate_up.block_m == int4.down.block_m
        assert int4.gate_up.block_k == int4.down.block_k == BLOCK_K


@pytest.mark.parametrize(
    ("num_tokens", "block_m"), [(1, 16), (16, 16), (17, 32), (32, 32), (33, 64), (64, 64)]
)
def test_few_tokens_fill_one_tile_of_8_bit_products(num_tokens, block_m) -> None:
    assert w8a8_matmul_config(num_tokens, 4096, 4096, H100).block_m == block_m


@pytest.mark.parametrize(
    ("num_tokens", "block_m"), [(1, 8), (8, 8), (9, 16), (17, 32), (33, 64), (64, 64)]
)
def test_few_tokens_fill_one_tile_of_4_bit_products(num_tokens, block_m) -> None:
    assert w4a16_matmul_config(num_tokens, 4096, 4096, H100).block_m == block_m


@pytest.mark.parametrize(
    ("num_tokens", "out_dim", "dim", "tile"),
    [
        (16, 4096, 4096, (16, 64, 2)),
        (16, 4096, 14_336, (16, 64, 2)),
        (16, 6144, 4096, (16, 64, 1)),
        (16, 28_672, 4096, (16, 64, 1)),
        (64, 4096, 4096, (64, 64, 1)),
        (64, 4096, 14_336, (64, 64, 2)),
        (128, 6144, 4096, (128, 64, 1)),
        (128, 4096, 14_336, (128, 64, 2)),
        (512, 4096, 14_336, (128, 128, 1)),
        (512, 28_672, 4096, (128, 256, 1)),
        (4096, 4096, 4096, (128, 256, 1)),
    ],
)
def test_measured_8_bit_tiles(num_tokens, out_dim, dim, tile) -> None:
    """(block_m, block_n, num_splits): the fastest on an H100, or within its noise."""
    config = w8a8_matmul_config(num_tokens, out_dim, dim, H100)

    assert (config.block_m, config.block_n, config.num_splits) == tile


@pytest.mark.parametrize(
    ("num_tokens", "out_dim", "dim", "tile"),
    [
        (1, 4096, 4096, (8, 64, 4)),
        (1, 28_672, 4096, (8, 32, 1)),
        (16, 4096, 4096, (16, 64, 4)),
        (16, 6144, 4096, (16, 64, 4)),
        (16, 4096, 14_336, (16, 64, 4)),
        (16, 28_672, 4096, (16, 64, 1)),
        (32, 28_672, 4096, (32, 128, 1)),
        (64, 4096, 4096, (64, 64, 4)),
        (64, 6144, 4096, (64, 64, 2)),
        (64, 28_672, 4096, (64, 128, 1)),
        (128, 4096, 4096, (128, 128, 4)),
        (128, 6144, 4096, (128, 128, 2)),
        (512, 4096, 4096, (128, 128, 1)),
    ],
)
def test_measured_4_bit_tiles(num_tokens, out_dim, dim, tile) -> None:
    """(block_m, block_n, num_splits), as above."""
    config = w4a16_matmul_config(num_tokens, out_dim, dim, H100)

    assert (config.block_m, config.block_n, config.num_splits) == tile


def test_tiles_keep_the_stages_they_were_measured_with() -> None:
    for num_tokens in (1, 16, 32, 64, 128):
        stages = w4a16_matmul_config(num_tokens, 28_672, 4096, H100).num_stages
        assert stages == {1: 4, 64: 2}.get(num_tokens, 3)
    for num_tokens, stages in ((16, 4), (64, 5), (128, 4), (4096, 3)):
        assert w8a8_matmul_config(num_tokens, 28_672, 4096, H100).num_stages == stages


def test_within_a_bucket_a_rows_sum_has_one_order() -> None:
    """Only num_tokens changes from step to step, and up to 16 rows share one launch."""
    for config in (w8a8_matmul_config, w4a16_matmul_config):
        assert len({config(n, 4096, 14_336, H100) for n in range(9, 17)}) == 1


@pytest.mark.parametrize(
    ("num_tiles", "num_blocks", "expected"),
    [(64, 32, 2), (66, 32, 2), (67, 32, 1), (1, 32, 4), (1, 7, 1), (1, 1000, 8), (1000, 1000, 1)],
)
def test_splits_fill_the_device_with_blocks_enough_each(num_tiles, num_blocks, expected) -> None:
    assert splits(num_tiles, num_blocks, H100, per_sm=1, least_blocks=8) == expected


def test_fewer_stages_where_shared_memory_is_small() -> None:
    tile = TileConfig(block_m=128, block_n=256, block_k=128, num_warps=8, num_stages=4)

    assert fitted(tile, H100, x_bytes=1, weight_bytes=1) == replace(tile, num_stages=4)
    assert fitted(tile, L4, x_bytes=1, weight_bytes=1).num_stages == 2


def test_fp32_outputs_do_not_sum_in_14_bits() -> None:
    assert w8a8_matmul_config(16, 4096, 4096, H100, is_fp32_out=True).imprecise == 0
    assert w8a8_matmul_config(4096, 4096, 4096, H100, is_fp32_out=True).imprecise == 0
