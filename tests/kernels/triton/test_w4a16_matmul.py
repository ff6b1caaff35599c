from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from shoal.kernels.int4_weight import Int4Weight, pack_int4, quantize_int4
from shoal.kernels.launch.tile_config import TileConfig
from shoal.kernels.launch.w4a16_matmul import MANY_TOKENS
from shoal.kernels.triton.dequantize_int4 import dequantize_int4 as dequantize_int4_triton
from shoal.kernels.triton.w4a16_matmul import w4a16_matmul
from shoal.kernels.w4a16_matmul import dequantize_int4
from tests.kernels.triton.closeness import assert_as_exact_as
from tests.kernels.triton.row_data import rand

on_gpu = torch.cuda.is_available()
BF16 = pytest.param(
    torch.bfloat16,
    marks=pytest.mark.skipif(
        not on_gpu, reason="Triton's interpreter multiplies the bit patterns of bf16 matrices"
    ),
)
TILE = TileConfig(block_m=16, block_n=32, block_k=256, num_warps=4, num_stages=2, swap=True)


def check(device, shape, dtype, config, *, group_size=128, symmetric=False) -> None:
    num_tokens, out_dim, dim = shape
    x = rand(num_tokens, dim, device=device, dtype=dtype, seed=1)
    bias = rand(out_dim, device=device, dtype=dtype, seed=3)
    dense = rand(out_dim, dim, device=device, dtype=dtype, seed=2)
    weight = quantize_int4(dense, group_size=group_size, symmetric=symmetric)

    result = w4a16_matmul(x, weight, bias, config)

    floats = dequantize_int4(weight)
    by_torch = torch.nn.functional.linear(x, floats.to(dtype), bias)
    exact = x.double() @ floats.double().t() + bias.double()
    assert_as_exact_as(by_torch, result, exact)


@pytest.mark.parametrize("dtype", [torch.float16, BF16])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("group_size", [64, 128])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 37, 320), (17, 32, 256)])
def test_product_is_as_exact_as_torchs(device, shape, group_size, symmetric, dtype) -> None:
    check(device, shape, dtype, TILE, group_size=group_size, symmetric=symmetric)


@pytest.mark.parametrize("num_splits", [2, 4])
def test_splits_add_up(device, num_splits) -> None:
    # 3 blocks along k: the second of 2 splits has one, the last of 4 none.
    check(device, (5, 40, 600), torch.float16, replace(TILE, num_splits=num_splits))


@pytest.mark.parametrize("symmetric", [False, True])
def test_scales_folded_into_the_weights(device, symmetric) -> None:
    config = replace(TILE, fold_scales=True)
    check(device, (5, 40, 600), torch.float16, config, symmetric=symmetric)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("group_size", "symmetric"), [(64, False), (128, True)])
@pytest.mark.parametrize(("out_dim", "dim"), [(1, 1), (33, 320), (64, 512)])
def test_dequantized_weights_are_the_twins(
    device, out_dim, dim, group_size, symmetric, dtype
) -> None:
    dense = rand(out_dim, dim, device=device, dtype=dtype)
    weight = quantize_int4(dense, group_size=group_size, symmetric=symmetric)

    # A 4-bit integer times a scale is exact in fp32: both round it once.
    assert torch.equal(dequantize_int4_triton(weight, dtype), dequantize_int4(weight).to(dtype))


def test_many_tokens_are_multiplied_by_the_library(device) -> None:
    check(device, (MANY_TOKENS, 3, 64), torch.float16, None)


def test_without_the_copy_engine(device) -> None:
    check(device, (5, 40, 256), torch.float16, replace(TILE, tma=False, tma_x=False))


def test_a_row_does_not_depend_on_the_rows_beside_it(device) -> None:
    x = rand(16, 512, device=device, dtype=torch.float16)
    weight = quantize_int4(rand(32, 512, device=device, dtype=torch.float16, seed=2))
    together = w4a16_matmul(x, weight, None, TILE)

    alone = w4a16_matmul(x[5:6], weight, None, TILE)

    assert torch.equal(alone, together[5:6])


def test_every_code_and_zero(device) -> None:
    """All 16 codes in all four nibbles of a word, less all 16 zeros."""
    codes = torch.arange(16, dtype=torch.uint8).repeat(16)
    weight = Int4Weight(
        packed=pack_int4(codes.expand(16, 256)).to(device),
        scales=torch.ones(2, 16, dtype=torch.float16, device=device),
        zeros=torch.arange(16, dtype=torch.uint8).expand(2, 16).contiguous().to(device),
        dim=256,
        group_size=128,
    )
    one_hot = torch.eye(256, dtype=torch.float16, device=device)

    result = w4a16_matmul(one_hot, weight, None, replace(TILE, block_m=64))

    want = codes.float()[:, None] - torch.arange(16.0)[None, :]
    assert torch.equal(result.float().cpu(), want)


@pytest.mark.gpu
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(
    ("num_tokens", "out_dim", "dim"),
    [(1, 4096, 4096), (17, 28672, 512), (33, 1000, 1040), (64, 48, 8192), (300, 4096, 4096)],
)
def test_chosen_launches(device, num_tokens, out_dim, dim, symmetric) -> None:
    check(device, (num_tokens, out_dim, dim), torch.bfloat16, None, symmetric=symmetric)
