"""Tiles of the operations over rows, as tables."""

from __future__ import annotations

import pytest

from shoal.kernels.launch.gather_rows import gather_rows_launch
from shoal.kernels.launch.gpu import H100
from shoal.kernels.launch.powers import next_power_of_two
from shoal.kernels.launch.rms_norm import rms_norm_launch
from shoal.kernels.launch.silu_and_mul import silu_and_mul_fp8_launch, silu_and_mul_launch


@pytest.mark.parametrize(
    ("n", "power"), [(-1, 1), (0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (4097, 8192)]
)
def test_next_power_of_two(n: int, power: int) -> None:
    assert next_power_of_two(n) == power


@pytest.mark.parametrize("dim", [1, 64, 123, 128, 2880, 4096, 5120, 16384])
@pytest.mark.parametrize("num_rows", [1, 64, 4096, 163_840])
def test_a_norm_holds_whole_rows_in_few_registers(num_rows: int, dim: int) -> None:
    launch = rms_norm_launch(num_rows, dim, H100)
    assert launch.block >= dim
    assert launch.block < 2 * dim
    entries = launch.rows * launch.block / (32 * launch.num_warps)
    assert entries <= 32
    assert launch.num_warps <= 16


def test_short_rows_share_a_program_once_all_multiprocessors_have_one() -> None:
    assert rms_norm_launch(4096 * 32, 128, H100).rows > 1
    assert rms_norm_launch(100, 128, H100).rows == 1


@pytest.mark.parametrize("dim", [1, 37, 1024, 14_336, 53_248])
def test_activations_are_cut_and_for_fp8_are_not(dim: int) -> None:
    assert silu_and_mul_fp8_launch(64, dim).block >= dim
    assert silu_and_mul_fp8_launch(64, dim).num_warps <= 32
    assert silu_and_mul_launch(64, dim).block < 2 * dim


@pytest.mark.parametrize("dim", [1, 37, 4096, 16_384])
def test_a_gather_is_cut(dim: int) -> None:
    launch = gather_rows_launch(dim)
    assert launch.block < 2 * dim
    assert launch.num_warps >= 1
