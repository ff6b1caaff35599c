"""Tiles of MLA decode, as a table."""

from __future__ import annotations

import pytest

from shoal.kernels.launch.gpu import H100, Gpu
from shoal.kernels.launch.mla_decode import (
    HopperMlaDecode,
    MlaDecodeConfig,
    hopper_mla_decode,
    mla_decode_config,
)

A100 = Gpu(capability=(8, 0), num_sms=108, shared_memory_bytes=166_912)
L4 = Gpu(capability=(8, 9), num_sms=58, shared_memory_bytes=101_376)


def test_deepseek_on_hopper() -> None:
    assert mla_decode_config(H100, num_heads=128, element_bytes=2) == MlaDecodeConfig(
        block_h=64, block_n=64, num_warps=8, num_stages=2
    )


@pytest.mark.parametrize("gpu", [H100, A100, L4])
@pytest.mark.parametrize("num_heads", [1, 16, 32, 128])
def test_tiles_fit_the_shared_memory(gpu: Gpu, num_heads: int) -> None:
    config = mla_decode_config(gpu, num_heads=num_heads, element_bytes=2)
    needed = (config.block_h + config.num_stages * config.block_n) * 576 * 2
    assert needed <= gpu.shared_memory_bytes


def test_a_split_is_a_whole_number_of_tiles() -> None:
    for element_bytes in (2, 4):
        config = mla_decode_config(H100, num_heads=128, element_bytes=element_bytes)
        assert config.split_size % config.block_n == 0


def test_the_split_does_not_depend_on_the_batch() -> None:
    sizes = {mla_decode_config(H100, num_heads=n, element_bytes=2).split_size for n in (1, 16, 128)}
    assert len(sizes) == 1


def hopper(gpu: Gpu = H100, **changes: object) -> HopperMlaDecode | None:
    arguments: dict[str, object] = {
        "num_heads": 128, "value_dim": 512, "element_bytes": 2,
        "cache_shape": (100, 64, 576), "cache_strides": (64 * 576, 576, 1),
    }  # fmt: skip
    return hopper_mla_decode(gpu, **(arguments | changes))  # type: ignore[arg-type]


def test_the_cache_as_a_matrix() -> None:
    config = hopper()
    assert config is not None
    assert (config.num_rows, config.row_stride, config.block_rows) == (6400, 576, 64)
    assert config.rows == 32


def test_blocks_of_16_are_boxes_of_16() -> None:
    config = hopper(cache_shape=(100, 16, 576), cache_strides=(16 * 576, 576, 1))
    assert config is not None
    assert config.rows == 16


def test_blocks_apart_from_each_other() -> None:
    """A layer's blocks between those of others."""
    config = hopper(cache_strides=(7 * 64 * 576, 576, 1))
    assert config is not None
    assert config.block_rows == 7 * 64
    assert config.num_rows == 99 * 7 * 64 + 64


@pytest.mark.parametrize(
    "changes",
    [
        {"gpu": A100},
        {"num_heads": 16},
        {"value_dim": 256},
        {"element_bytes": 4},
        {"cache_shape": (100, 64, 320), "cache_strides": (64 * 320, 320, 1)},
        {"cache_shape": (100, 24, 576), "cache_strides": (24 * 576, 576, 1)},
        {"cache_strides": (64 * 576, 576, 2)},
        {"cache_strides": (64 * 577, 577, 1)},
        {"cache_strides": (64 * 576 + 8, 576, 1)},
    ],
)
def test_what_the_body_of_all_gpus_keeps(changes: dict[str, object]) -> None:
    assert hopper(**changes) is None  # type: ignore[arg-type]
