from __future__ import annotations

import pytest
import torch

from shoal.kernels.w8a8_matmul import w8a8_matmul


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def int8(*shape: int) -> torch.Tensor:
    return torch.randint(-128, 128, shape, generator=generator(), dtype=torch.int8)


def test_int8_product_by_a_loop() -> None:
    x, weight = int8(3, 5), int8(4, 5)
    x_scale, weight_scale = torch.tensor([0.5, 2.0, 1.0]), torch.tensor([1.0, 0.25, 4.0, 8.0])
    bias = torch.tensor([1.0, 0.0, -3.0, 0.5])

    out = w8a8_matmul(
        x, weight, x_scale=x_scale, weight_scale=weight_scale, bias=bias, out_dtype=torch.float32
    )

    for m, row in enumerate(x.tolist()):
        for n, column in enumerate(weight.tolist()):
            total = sum(a * b for a, b in zip(row, column, strict=True))
            want = total * x_scale[m].item() * weight_scale[n].item() + bias[n].item()
            assert out[m, n].item() == want  # powers of two: exact


def test_fp8_product_of_dequantized_matrices() -> None:
    x = torch.randn(3, 64, generator=generator()).to(torch.float8_e4m3fn)
    weight = torch.randn(4, 64, generator=generator()).to(torch.float8_e4m3fn)
    x_scale, weight_scale = torch.rand(3, 1), torch.rand(4, 1)

    out = w8a8_matmul(
        x, weight, x_scale=x_scale, weight_scale=weight_scale, out_dtype=torch.float32
    )

    want = (x.double() * x_scale) @ (weight.double() * weight_scale).t()
    torch.testing.assert_close(out.double(), want, rtol=1e-6, atol=1e-5)


def test_no_tokens() -> None:
    out = w8a8_matmul(int8(0, 5), int8(4, 5), x_scale=torch.ones(0), weight_scale=torch.ones(4))

    assert out.shape == (0, 4)
    assert out.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.zeros(3, 5)}, "both int8 or both float8_e4m3fn, not torch.float32"),
        ({"weight": int8(4, 6)}, r"not \[3, 5\] and \[4, 6\]"),
        ({"x_scale": torch.ones(4)}, r"x_scale must hold 3 fp32 scales"),
        ({"weight_scale": torch.ones(4).half()}, r"weight_scale must hold 4 fp32 scales"),
        ({"bias": torch.ones(3)}, r"bias must be \[4\], not \[3\]"),
        ({"out_dtype": torch.int32}, "returns bf16, fp16 or fp32, not torch.int32"),
    ],
)
def test_what_does_not_fit_is_named(changes, message) -> None:
    arguments = {
        "x": int8(3, 5),
        "weight": int8(4, 5),
        "x_scale": torch.ones(3),
        "weight_scale": torch.ones(4),
    } | changes
    x, weight = arguments.pop("x"), arguments.pop("weight")

    with pytest.raises(ValueError, match=message):
        w8a8_matmul(x, weight, **arguments)
