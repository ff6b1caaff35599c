from __future__ import annotations

import pytest
import torch

from shoal.kernels.launch.gpu import H100, Gpu
from shoal.kernels.quantize_rows import CODE_MAX, has_codes, quantize_rows


def test_the_largest_entry_has_the_largest_code() -> None:
    codes, scale = quantize_rows(torch.tensor([[1.0, -12.7, 0.04]]), dtype=torch.int8)

    assert codes.tolist() == [[10, -127, 0]]
    assert scale.item() == pytest.approx(0.1)


@pytest.mark.parametrize(("dtype", "share"), [(torch.int8, 1 / 254), (torch.float8_e4m3fn, 1 / 16)])
def test_codes_times_scales_are_near_the_values(dtype, share) -> None:
    x = torch.randn(5, 3, 65, generator=torch.Generator().manual_seed(0))

    codes, scale = quantize_rows(x, dtype=dtype)

    assert scale.shape == (5, 3, 1)
    # int8 is off by half a code of the row's largest, fp8 by half of its 3 bits of each value.
    bound = x.abs() if dtype.is_floating_point else x.abs().amax(-1, keepdim=True)
    error = (codes.float() * scale - x).abs()
    assert (error <= share * bound * 1.001 + 1e-6 + scale * 2**-10).all()


@pytest.mark.parametrize("dtype", CODE_MAX)
def test_a_row_of_zeros(dtype) -> None:
    codes, scale = quantize_rows(torch.zeros(2, 3), dtype=dtype)

    assert not codes.float().any()
    assert scale.tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("shape", [(0, 4), (3, 0)])
def test_empty(shape) -> None:
    codes, scale = quantize_rows(torch.zeros(shape), dtype=torch.int8)

    assert codes.shape == shape
    assert scale.shape == (shape[0], 1)


def test_wrong_types_are_named() -> None:
    with pytest.raises(ValueError, match="int8 or float8_e4m3fn, not"):
        quantize_rows(torch.zeros(1, 1), dtype=torch.int16)
    with pytest.raises(ValueError, match="reads bf16, fp16 or fp32, not"):
        quantize_rows(torch.zeros(1, 1, dtype=torch.int64), dtype=torch.int8)


def test_gpus_before_8_9_have_no_fp8(monkeypatch) -> None:
    gpus = {
        "cuda:0": H100,
        "cuda:1": Gpu(capability=(8, 0), num_sms=108, shared_memory_bytes=166_912),
    }
    monkeypatch.setattr("shoal.kernels.quantize_rows.gpu_of", lambda device: gpus[str(device)])

    def has(name: str) -> list[bool]:
        return [has_codes(torch.device(name), dtype) for dtype in CODE_MAX]

    assert has("cuda:0") == [True, True]
    assert has("cuda:1") == [True, False]  # int8, fp8
