from __future__ import annotations

import pytest
import torch

from shoal.kernels.launch.quantize_rows import MAX_BLOCK
from shoal.kernels.quantize_rows import CODE_MAX, quantize_rows_torch
from shoal.kernels.triton.quantize_rows import quantize_rows_triton
from tests.kernels.triton.row_data import DTYPES, rand


@pytest.mark.parametrize("code_dtype", CODE_MAX)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 3, 129), (1, MAX_BLOCK + 1)])
def test_codes_and_scales_are_the_twins(device, shape, dtype, code_dtype) -> None:
    x = rand(*shape, device=device, dtype=dtype)

    codes, scale = quantize_rows_triton(x, code_dtype)

    want_codes, want_scale = quantize_rows_torch(x, dtype=code_dtype)
    assert scale.dtype == torch.float32
    torch.testing.assert_close(scale, want_scale, rtol=0, atol=0)
    assert codes.dtype == code_dtype
    # Both divide and round as IEEE 754 says: no code may differ.
    torch.testing.assert_close(codes.float(), want_codes.float(), rtol=0, atol=0)


def test_a_row_of_zeros_has_scale_one(device) -> None:
    codes, scale = quantize_rows_triton(torch.zeros(2, 5, device=device), torch.int8)

    assert scale.flatten().tolist() == [1.0, 1.0]
    assert not codes.any()


def test_rows_may_be_a_slice_of_a_wider_tensor(device) -> None:
    x = rand(4, 64, device=device)[:, 8:40]

    codes, scale = quantize_rows_triton(x, torch.int8)

    want_codes, want_scale = quantize_rows_torch(x.contiguous(), dtype=torch.int8)
    assert torch.equal(codes, want_codes)
    assert torch.equal(scale, want_scale)


@pytest.mark.gpu
def test_offsets_pass_two_to_the_31(device) -> None:
    x = torch.zeros(2**19 + 3, 4096, dtype=torch.bfloat16, device=device)
    x[-1] = rand(4096, device=device, dtype=torch.bfloat16)

    codes, scale = quantize_rows_triton(x, torch.int8)

    want_codes, want_scale = quantize_rows_torch(x[-2:], dtype=torch.int8)
    assert torch.equal(codes[-2:], want_codes)
    assert torch.equal(scale[-2:], want_scale)
