from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from shoal.kernels.int4_weight import Int4Weight, pack_int4, quantize_int4, unpack_int4
from shoal.kernels.w4a16_matmul import dequantize_int4, w4a16_matmul


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def codes(*shape: int) -> torch.Tensor:
    return torch.randint(
        0, 16, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )


def test_the_packed_layout() -> None:
    """Nibble i of word j is element 64 * i + j of a block of 256: as the module says."""
    row = codes(1, 512)

    packed = pack_int4(row)

    assert packed.dtype == torch.int16
    for block in range(2):
        for j in (0, 1, 63):
            word = packed[0, 64 * block + j].item() & 0xFFFF
            nibbles = [word >> 4 * i & 0xF for i in range(4)]
            assert nibbles == row[0, 256 * block + j : 256 * (block + 1) : 64].tolist()


@pytest.mark.parametrize("dim", [1, 64, 255, 256, 257, 600])
def test_unpacking_is_the_inverse(dim) -> None:
    rows = codes(3, dim)

    assert torch.equal(unpack_int4(pack_int4(rows), dim=dim), rows)


def test_no_rows() -> None:
    assert pack_int4(codes(0, 300)).shape == (0, 128)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("group_size", [64, 128])
@pytest.mark.parametrize("dim", [64, 200, 512])
def test_quantization_is_off_by_half_a_code(dim, group_size, symmetric) -> None:
    dense = normal(5, dim)

    weight = quantize_int4(dense, group_size=group_size, symmetric=symmetric)

    step = weight.scales.t().repeat_interleave(group_size, 1)[:, :dim]
    # Rounding an asymmetric group's zero to a code moves all its values by up to half a step, and
    # what that pushes past code 15 or below 0 is cut there.
    most = 0.5 if symmetric else 1.0
    assert ((dequantize_int4(weight) - dense).abs() <= most * step * 1.001).all()


def test_exact_codes_are_found_again() -> None:
    rows = codes(4, 256)
    rows[:, ::64] = 15
    rows[:, 1::64] = 0
    dense = (rows.float() - 5) * 0.25

    weight = quantize_int4(dense, group_size=64)

    assert torch.equal(unpack_int4(weight.packed, dim=256), rows)
    assert weight.zeros is not None
    assert weight.zeros.unique().tolist() == [5]
    assert torch.equal(dequantize_int4(weight), dense)


def test_product_by_groups() -> None:
    weight = quantize_int4(normal(6, 256), group_size=64)
    x, bias = normal(3, 256, seed=1).half(), normal(6, seed=2).half()

    out = w4a16_matmul(x, weight, bias=bias)

    assert weight.zeros is not None
    want = bias.double().expand(3, 6).clone()
    rows = unpack_int4(weight.packed, dim=256)
    for group in range(4):
        part = slice(64 * group, 64 * (group + 1))
        integers = rows[:, part].double() - weight.zeros[group, :, None].double()
        want += (x[:, part].double() @ integers.t()) * weight.scales[group].double()
    assert out.dtype == torch.float16
    torch.testing.assert_close(out.double(), want, rtol=2**-11, atol=1e-4)


def test_codes_must_be_codes() -> None:
    with pytest.raises(ValueError, match="codes of 0 to 15; one is 16"):
        pack_int4(torch.tensor([[3, 16]], dtype=torch.uint8))
    with pytest.raises(ValueError, match="uint8 codes, not"):
        pack_int4(torch.tensor([[3]]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group_size": 32}, "must be 64 or 128, not 32"),
        ({"packed": torch.zeros(6, 64, dtype=torch.uint8)}, "packed must be int16"),
        ({"packed": torch.zeros(6, 64, dtype=torch.int16)}, "must have 128 words a row"),
        ({"scales": torch.ones(6, 3)}, r"scales must be floats \[3, 6\]"),
        ({"zeros": torch.ones(3, 6)}, r"zeros must be uint8 \[3, 6\]"),
    ],
)
def test_what_does_not_fit_is_named(changes, message) -> None:
    weight = quantize_int4(normal(6, 300), group_size=128)

    with pytest.raises(ValueError, match=message):
        replace(weight, **changes)


def test_activations_must_fit() -> None:
    weight = quantize_int4(normal(6, 300))
    assert isinstance(weight, Int4Weight)
    with pytest.raises(ValueError, match=r"x \[num_tokens, 300\]"):
        w4a16_matmul(normal(2, 301).half(), weight)
    with pytest.raises(ValueError, match="bf16 or fp16 activations, not"):
        w4a16_matmul(normal(2, 300), weight)
    with pytest.raises(ValueError, match=r"bias must be \[6\], not \[5\]"):
        w4a16_matmul(normal(2, 300).half(), weight, bias=normal(5))
