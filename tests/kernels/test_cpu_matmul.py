"""Packed matrices and their products, on every instruction set that this machine has."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize

from shoal.errors import UnsupportedModel
from shoal.kernels.cpu.packed import BF16, GROUP, Codes, Floats, Packer, concatenate, matmul
from tests.kernels.cpu_library import INSTRUCTION_SETS, kernels

SHAPES = [(1, 1), (16, 32), (17, 33), (5, 64), (48, 31), (33, 100), (64, 288)]
"""(rows, columns): whole panels and groups, and what sticks out of them."""


@pytest.fixture(params=INSTRUCTION_SETS)
def library(request: pytest.FixtureRequest) -> ctypes.CDLL:
    return kernels(request.param)


def random_codes(bits: int, shape: tuple[int, int], seed: int = 0) -> Codes:
    rng = np.random.default_rng(seed)
    groups = (shape[0], -(-shape[1] // GROUP))
    scales = rng.uniform(0.001, 0.1, groups).astype(np.float16).astype(np.float32)
    minima = rng.uniform(-1, 1, groups).astype(np.float16).astype(np.float32)
    return Codes(bits, rng.integers(0, 2**bits, shape, dtype=np.uint8), scales, minima)


def random_floats(shape: tuple[int, int], seed: int = 0) -> Floats:
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return (values.view(np.uint32) & 0xFFFF0000).view(np.float32)  # bf16 holds them exactly


def quantized(x: Floats) -> Floats:
    """Activations as the kernels see them: 8 bits, a scale for 32 neighbours."""
    padded = np.zeros((len(x), -(-x.shape[1] // GROUP) * GROUP), np.float32)
    padded[:, : x.shape[1]] = x
    groups = padded.reshape(len(x), -1, GROUP)
    scales = np.abs(groups).max(-1, keepdims=True) / np.float32(127)
    codes = np.rint(groups * np.where(scales > 0, 1 / np.maximum(scales, 1e-30), 0))
    return (codes * scales).reshape(padded.shape)[:, : x.shape[1]].astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bits", [4, 8])
def test_rows_of_codes_come_back(library: ctypes.CDLL, bits: int, shape: tuple[int, int]) -> None:
    packer = Packer(library)
    codes = random_codes(bits, shape)
    rows = np.random.default_rng(1).permutation(shape[0])
    found = packer.rows(packer.pack(codes), rows)
    np.testing.assert_allclose(found, codes.floats()[rows], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_of_floats_come_back(library: ctypes.CDLL, shape: tuple[int, int]) -> None:
    packer = Packer(library)
    values = random_floats(shape)
    assert (packer.rows(packer.pack(values), np.arange(shape[0])) == values).all()


@pytest.mark.parametrize("num_rows", [1, 2, 3, 4, 5, 9, 131])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bits", [4, 8, BF16])
def test_products(library: ctypes.CDLL, bits: int, shape: tuple[int, int], num_rows: int) -> None:
    rng = np.random.default_rng(num_rows)
    packer = Packer(library)
    weights = random_floats(shape) if bits == BF16 else random_codes(bits, shape)
    bias = rng.standard_normal(shape[0]).astype(np.float32)
    x = rng.standard_normal((num_rows, shape[1])).astype(np.float32)
    x[:, :: max(shape[1] // 3, 1)] *= 30  # outliers, as activations have
    found = matmul(library, packer.pack(weights, bias), x, num_threads=1 + num_rows % 3)
    dense = weights.floats() if isinstance(weights, Codes) else weights
    seen = x if bits == BF16 else quantized(x)
    expected = seen.astype(np.float64) @ dense.astype(np.float64).T + bias
    size = np.abs(seen).astype(np.float64) @ np.abs(dense).astype(np.float64).T + 1
    tolerance = 1e-2 if bits == BF16 and bf16_activations(library) else 1e-5
    assert (np.abs(found - expected) <= tolerance * size).all()


def bf16_activations(library: ctypes.CDLL) -> bool:
    return "avx512_bf16" in str(library._name)


def test_a_row_does_not_depend_on_the_others(library: ctypes.CDLL) -> None:
    packer = Packer(library)
    x = np.random.default_rng(0).standard_normal((131, 288)).astype(np.float32)
    for weights in (random_codes(4, (100, 288)), random_codes(8, (100, 288))):
        matrix = packer.pack(weights)
        together = matmul(library, matrix, x, num_threads=2)
        for row in (0, 1, 2, 3, 96, 97, 128, 130):
            assert (matmul(library, matrix, x[row : row + 1])[0] == together[row]).all()


def test_instruction_sets_agree_bit_for_bit_on_integers() -> None:
    # Weights and activations that are small integers: every sum is exact in any order.
    codes = Codes(
        8, np.random.default_rng(0).integers(0, 256, (40, 96), dtype=np.uint8),
        np.ones((40, 3), np.float32), np.full((40, 3), -128, np.float32),
    )  # fmt: skip
    x = np.random.default_rng(1).integers(-127, 128, (7, 96)).astype(np.float32)
    x[:, ::32] = 127  # the scale of every group is one
    expected = x @ codes.floats().T
    for name in INSTRUCTION_SETS:
        library = kernels(name)
        assert (matmul(library, Packer(library).pack(codes), x) == expected).all()


def test_largest_codes_do_not_overflow(library: ctypes.CDLL) -> None:
    packer = Packer(library)
    for bits in (4, 8):
        for sign in (-1, 1):
            weights = Codes(
                bits, np.full((16, 512), 2**bits - 1, np.uint8),
                np.ones((16, 16), np.float32), np.zeros((16, 16), np.float32),
            )  # fmt: skip
            x = np.full((5, 512), 127.0 * sign, np.float32)
            found = matmul(library, packer.pack(weights), x)
            assert (found == 512 * 127.0 * sign * (2**bits - 1)).all()


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("bits", [4, 8, BF16])
def test_broken_activations_stay_broken_and_alone(
    library: ctypes.CDLL, bits: int, broken: float
) -> None:
    weights = random_floats((20, 64)) if bits == BF16 else random_codes(bits, (20, 64))
    x = np.ones((3, 64), np.float32)
    x[1, 40] = broken
    found = matmul(library, Packer(library).pack(weights), x)
    assert not np.isfinite(found[1]).any()
    assert np.isfinite(found[[0, 2]]).all()


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_gguf_blocks_become_codes_without_loss(library: ctypes.CDLL, kind: str) -> None:
    type_id = GGMLQuantizationType[kind]
    blocks = quantize(
        np.random.default_rng(0).standard_normal((6, 128)).astype(np.float32), type_id
    )
    codes = Packer(library).gguf_codes(int(type_id), blocks, (6, 128))
    assert codes is not None
    assert codes.bits == (4 if kind.startswith("Q4") else 8)
    np.testing.assert_allclose(codes.floats(), dequantize(blocks, type_id), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["Q4_K", "Q5_K"])
def test_gguf_superblocks_become_codes(library: ctypes.CDLL, kind: str) -> None:
    type_id = GGMLQuantizationType[kind]
    _, size = GGML_QUANT_SIZES[type_id]
    blocks = np.random.default_rng(0).integers(0, 256, (8, size), dtype=np.uint8)
    blocks[:, :4] = np.array([0.01, 0.02], np.float16).view(np.uint8)  # d and dmin
    codes = Packer(library).gguf_codes(int(type_id), blocks, (4, 512))
    assert codes is not None
    expected = dequantize(blocks, type_id).reshape(4, 512)
    np.testing.assert_allclose(codes.floats(), expected, rtol=1e-5, atol=1e-5)


def test_other_gguf_types_have_no_codes(library: ctypes.CDLL) -> None:
    type_id = int(GGMLQuantizationType.Q6_K)
    assert Packer(library).gguf_codes(type_id, np.zeros(210, np.uint8), (1, 256)) is None


@pytest.mark.parametrize("shape", SHAPES)
def test_quantizing_floats(library: ctypes.CDLL, shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    codes = Packer(library).quantize(values)
    error = np.abs(codes.floats() - values)
    steps = np.repeat(codes.scales, GROUP, axis=1)[:, : shape[1]]
    assert (error <= 0.51 * steps + 1e-7).all()


def test_zeros_quantize_to_zero(library: ctypes.CDLL) -> None:
    codes = Packer(library).quantize(np.zeros((3, 40), np.float32))
    assert (codes.floats() == 0).all()


def test_a_scale_beyond_half_precision_is_refused(library: ctypes.CDLL) -> None:
    codes = random_codes(8, (4, 64))
    codes.scales[2, 1] = 1e6
    with pytest.raises(UnsupportedModel, match="half precision"):
        Packer(library).pack(codes)


def test_matrices_below_each_other() -> None:
    narrow, wide = random_codes(4, (3, 64)), random_codes(8, (5, 64), seed=1)
    both = concatenate([narrow, wide])
    assert both.bits == 8
    assert (both.floats() == np.concatenate([narrow.floats(), wide.floats()])).all()
