"""Tiles of MLA decode, as a table."""

from __future__ import annotations

import pytest

from shoal.kernels.launch.gpu import H100, Gpu
from shoal.kernels.launch.mla_decode import MlaDecodeConfig, mla_decode_config

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
