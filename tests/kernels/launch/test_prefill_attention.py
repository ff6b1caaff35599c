"""Which calls take the prefill path, and its tiles, as tables."""

from __future__ import annotations

import pytest

from shoal.kernels.launch.gpu import H100, Gpu
from shoal.kernels.launch.prefill_attention import (
    MIN_QUERY_LEN,
    PrefillConfig,
    prefill_config,
    prefill_path_takes,
)

A100 = Gpu(capability=(8, 0), num_sms=108, shared_memory_bytes=166_912)
L4 = Gpu(capability=(8, 9), num_sms=58, shared_memory_bytes=101_376)
LLAMA = {
    "max_query_len": 8192, "head_dim": 128, "block_size": 16, "element_bytes": 2, "plain": True,
}  # fmt: skip


def test_a_long_chunk_on_hopper_takes_the_path() -> None:
    assert prefill_path_takes(H100, **LLAMA)


@pytest.mark.parametrize(
    "change",
    [
        {"max_query_len": MIN_QUERY_LEN - 1},
        {"head_dim": 64},
        {"head_dim": 256},
        {"block_size": 4},
        {"block_size": 24},
        {"block_size": 256},
        {"element_bytes": 1},
        {"element_bytes": 4},
        {"plain": False},
    ],
)
def test_what_the_general_kernel_keeps(change: dict[str, int]) -> None:
    assert not prefill_path_takes(H100, **(LLAMA | change))


def test_other_gpus_do_not_take_the_path() -> None:
    assert not prefill_path_takes(A100, **LLAMA)
    assert not prefill_path_takes(L4, **LLAMA)


@pytest.mark.parametrize("gpu", [H100, A100, L4])
@pytest.mark.parametrize("head_dim", [64, 96, 128, 256])
@pytest.mark.parametrize("element_bytes", [2, 4])
def test_tiles_fit_the_shared_memory(gpu: Gpu, head_dim: int, element_bytes: int) -> None:
    config = prefill_config(gpu, head_dim=head_dim, element_bytes=element_bytes)
    keys_and_values = 2 * config.num_stages * config.block_n
    needed = (config.block_m + keys_and_values) * head_dim * element_bytes
    assert needed <= gpu.shared_memory_bytes


def test_tiles_on_hopper() -> None:
    assert prefill_config(H100, head_dim=128, element_bytes=2) == PrefillConfig(
        block_m=128, block_n=64, num_warps=8, num_stages=3
    )
