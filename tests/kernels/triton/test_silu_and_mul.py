"""The activation's bodies against fp64, beside torch in the same dtype."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from shoal.kernels.dispatch import triton_on_cpu
from shoal.kernels.silu_and_mul import (
    silu_and_mul,
    silu_and_mul_fp8,
    silu_and_mul_fp8_torch,
    silu_and_mul_torch,
)
from tests.kernels.triton.closeness import assert_as_exact_as
from tests.kernels.triton.row_data import DTYPES, rand

SHAPES = [(1, 1), (3, 37), (2, 3, 1024), (5, 1300), (0, 8), (3, 0)]


@pytest.fixture(autouse=True)
def bodies_in_triton():
    with triton_on_cpu():
        yield


def exact(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.double().chunk(2, -1)
    return gate * gate.sigmoid() * up


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_silu_and_mul(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
    gate_up = rand(*shape[:-1], 2 * shape[-1], device=device, dtype=dtype) * 4
    assert_as_exact_as(silu_and_mul_torch(gate_up), silu_and_mul(gate_up), exact(gate_up))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES[:-1])
def test_silu_and_mul_fp8(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
    gate_up = rand(*shape[:-1], 2 * shape[-1], device=device, dtype=dtype) * 4
    codes, scales = silu_and_mul_fp8(gate_up)
    torch_codes, torch_scales = silu_and_mul_fp8_torch(gate_up)
    assert codes.dtype == torch.float8_e4m3fn
    assert scales.shape == (*shape[:-1], 1)
    assert_as_exact_as(torch_codes.float() * torch_scales, codes.float() * scales, exact(gate_up))


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # numpy's; infinity is meant
def test_gates_far_from_zero_are_neither_nan_nor_infinite(device: torch.device) -> None:
    gate = torch.tensor([-1e4, -100.0, 100.0, 1e4], device=device)
    gate_up = torch.cat((gate, torch.ones(4, device=device)))
    torch.testing.assert_close(silu_and_mul(gate_up), gate.clamp_min(0.0))


def test_a_row_of_zeros_has_the_scale_one(device: torch.device) -> None:
    codes, scales = silu_and_mul_fp8(torch.zeros(2, 10, device=device))
    assert not codes.float().any()
    assert scales.tolist() == [[1.0], [1.0]]


def test_rows_with_a_stride_are_read_in_place(device: torch.device) -> None:
    wide = torch.full((6, 100), float("nan"), device=device)
    wide[:, :60] = rand(6, 60, device=device)
    rows = wide[:, :60]
    assert_as_exact_as(silu_and_mul_torch(rows), silu_and_mul(rows), exact(rows))


@pytest.mark.gpu
def test_offsets_pass_two_to_the_31(device: torch.device) -> None:
    gate_up = torch.randn(2**16 + 3, 2 * 16384, device=device, dtype=torch.bfloat16)
    tail = gate_up[-3:].clone()
    assert_as_exact_as(silu_and_mul_torch(tail), silu_and_mul(gate_up)[-3:], exact(tail))
