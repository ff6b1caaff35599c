"""The norms' bodies against fp64, beside torch in the same dtype."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from shoal.kernels.dispatch import triton_on_cpu
from shoal.kernels.rms_norm import (
    fused_add_rms_norm,
    fused_add_rms_norm_fp8,
    fused_add_rms_norm_fp8_torch,
    fused_add_rms_norm_torch,
    rms_norm,
    rms_norm_fp8,
    rms_norm_fp8_torch,
    rms_norm_torch,
)
from tests.kernels.triton.closeness import assert_as_exact_as
from tests.kernels.triton.row_data import DTYPES, rand

EPS = 1e-5
SHAPES = [(1, 1), (5, 123), (2, 3, 64), (7, 4096), (0, 8), (3, 0)]


@pytest.fixture(autouse=True)
def bodies_in_triton():
    with triton_on_cpu():
        yield


def exact_norm(x: Tensor, weight: Tensor) -> Tensor:
    wide = x.double()
    return wide / (wide.pow(2).mean(-1, keepdim=True) + EPS).sqrt() * weight.double()


def dequantized(codes: Tensor, scales: Tensor) -> Tensor:
    return codes.float() * scales


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_rms_norm(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
    x = rand(*shape, device=device, dtype=dtype)
    weight = rand(shape[-1], device=device, dtype=dtype, seed=1)
    torch_result = rms_norm_torch(x, weight, eps=EPS)
    assert_as_exact_as(torch_result, rms_norm(x, weight, eps=EPS), exact_norm(x, weight))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_fused_add_rms_norm(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> None:
    x, residual = (rand(*shape, device=device, dtype=dtype, seed=i) for i in range(2))
    weight = rand(shape[-1], device=device, dtype=dtype, seed=2)
    torch_result, total = fused_add_rms_norm_torch(x, residual.clone(), weight, eps=EPS)
    result, stream = fused_add_rms_norm(x, residual, weight, eps=EPS)
    assert stream is residual
    torch.testing.assert_close(residual, total, rtol=0, atol=0)
    assert_as_exact_as(torch_result, result, exact_norm(total, weight))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES[:-1])
def test_fp8(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
    x, residual = (rand(*shape, device=device, dtype=dtype, seed=i) for i in range(2))
    weight = rand(shape[-1], device=device, dtype=dtype, seed=2)
    codes, scales = rms_norm_fp8(x, weight, eps=EPS)
    torch_result = rms_norm_fp8_torch(x, weight, eps=EPS)
    assert codes.dtype == torch.float8_e4m3fn
    assert scales.shape == (*shape[:-1], 1)
    assert_as_exact_as(
        dequantized(*torch_result), dequantized(codes, scales), exact_norm(x, weight)
    )
    *torch_result, total = fused_add_rms_norm_fp8_torch(x, residual.clone(), weight, eps=EPS)
    codes, scales, stream = fused_add_rms_norm_fp8(x, residual, weight, eps=EPS)
    assert stream is residual
    torch.testing.assert_close(residual, total, rtol=0, atol=0)
    assert_as_exact_as(
        dequantized(*torch_result), dequantized(codes, scales), exact_norm(total, weight)
    )


def test_fp8_uses_the_whole_range_and_takes_a_row_of_zeros(device: torch.device) -> None:
    x = rand(3, 40, device=device)
    x[1] = 0
    codes, scales = rms_norm_fp8(x, torch.ones(40, device=device), eps=EPS)
    assert codes.float().abs().amax(-1).tolist() == [448.0, 0.0, 448.0]
    assert scales[1].item() == 1


def test_rows_with_a_stride_are_read_in_place(device: torch.device) -> None:
    """Heads of a merged projection: between two rows lie entries of others, here NaN."""
    both = torch.full((5, 7, 2, 24), float("nan"), device=device)
    both[:, :, 0] = rand(5, 7, 24, device=device)
    heads = both[:, :, 0]
    weight = rand(24, device=device, seed=1)
    torch_result = rms_norm_torch(heads, weight, eps=EPS)
    assert_as_exact_as(torch_result, rms_norm(heads, weight, eps=EPS), exact_norm(heads, weight))


def test_a_residual_that_is_not_contiguous_is_refused(device: torch.device) -> None:
    x = rand(4, 6, device=device)
    with pytest.raises(ValueError, match="residual is updated in place and must be contiguous"):
        fused_add_rms_norm(x, rand(6, 4, device=device).t(), x[0], eps=EPS)


@pytest.mark.gpu
def test_offsets_pass_two_to_the_31(device: torch.device) -> None:
    x = torch.randn(2**19 + 3, 4096, device=device, dtype=torch.bfloat16)
    weight = torch.randn(4096, device=device, dtype=torch.bfloat16)
    out = rms_norm(x, weight, eps=EPS)
    tail = x[-5:].clone()
    assert_as_exact_as(rms_norm_torch(tail, weight, eps=EPS), out[-5:], exact_norm(tail, weight))
