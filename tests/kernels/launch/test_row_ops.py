"""Tiles of the operations over rows, as tables."""

from __future__ import annotations

import pytest

from shoal.kernels.launch.gather_rows import gather_rows_config
from shoal.kernels.launch.powers import next_power_of_two
from shoal.kernels.launch.rms_norm import rms_norm_config
from shoal.kernels.launch.silu_and_mul import silu_and_mul_config

DIMS = [1, 37, 64, 128, 576, 2880, 4096, 5120, 14_336, 53_248]


@pytest.mark.parametrize(
    ("n", "power"), [(-1, 1), (0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (4097, 8192)]
)
def test_next_power_of_two(n: int, power: int) -> None:
    assert next_power_of_two(n) == power


@pytest.mark.parametrize("dim", [1, 64, 123, 128, 2880, 4096, 5120, 16384])
@pytest.mark.parametrize("fp8", [False, True])
@pytest.mark.parametrize("adds", [False, True])
def test_a_norm_holds_whole_rows_in_few_registers(dim: int, adds: bool, fp8: bool) -> None:
    launch = rms_norm_config(dim, adds=adds, fp8=fp8)
    assert dim <= launch.block < 2 * dim or dim == 1
    assert launch.rows * launch.block <= 32 * 32 * launch.num_warps
    assert launch.num_warps <= 16


def test_short_rows_share_a_program() -> None:
    assert rms_norm_config(128, adds=True, fp8=False).rows == 8
    assert rms_norm_config(4096, adds=True, fp8=False).rows == 1


@pytest.mark.parametrize("dim", DIMS)
def test_an_activation_is_cut_into_programs(dim: int) -> None:
    launch = silu_and_mul_config(dim, fp8=False)
    assert launch.chunks == 1
    assert launch.block <= 1024
    assert launch.block < 2 * dim or dim == 1


@pytest.mark.parametrize("dim", DIMS)
def test_an_activation_with_codes_is_one_program_of_few_idle_threads(dim: int) -> None:
    launch = silu_and_mul_config(dim, fp8=True)
    assert dim <= launch.chunks * launch.block < dim + launch.block
    assert launch.chunks * launch.block <= 64 * 32 * launch.num_warps  # 64 a thread
    assert launch.num_warps <= 32


def test_a_long_row_has_more_threads_not_ever_more_registers() -> None:
    assert silu_and_mul_config(14_336, fp8=True).num_warps == 16
    assert silu_and_mul_config(53_248, fp8=True).num_warps == 32


@pytest.mark.parametrize("dim", DIMS)
def test_a_gather_is_cut(dim: int) -> None:
    launch = gather_rows_config(dim)
    assert launch.block < 2 * dim or dim == 1
    assert 1 <= launch.num_warps <= 4
