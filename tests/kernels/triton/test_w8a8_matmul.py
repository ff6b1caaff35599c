from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from shoal.kernels.launch.tile_config import TileConfig
from shoal.kernels.quantize_rows import quantize_rows_torch
from shoal.kernels.triton.w8a8_matmul import w8a8_matmul
from shoal.kernels.w8a8_matmul import w8a8_matmul_torch
from tests.kernels.triton.closeness import assert_as_exact_as
from tests.kernels.triton.row_data import rand

on_gpu = torch.cuda.is_available()
needs_gpu = pytest.mark.skipif(
    not on_gpu, reason="Triton's interpreter multiplies the bit patterns of fp8, not their values"
)
FP8 = pytest.param(torch.float8_e4m3fn, marks=needs_gpu)
TILE = TileConfig(block_m=16, block_n=32, block_k=64, num_warps=4, num_stages=2, imprecise=64)
SHAPES = [(1, 1, 1), (3, 37, 130), (17, 33, 64), (16, 64, 272)]


def operands(device, num_tokens, out_dim, dim, dtype):
    x = quantize_rows_torch(rand(num_tokens, dim, device=device, seed=1), dtype=dtype)
    weight = quantize_rows_torch(rand(out_dim, dim, device=device, seed=2), dtype=dtype)
    return *x, *weight, rand(out_dim, device=device, seed=3)


def exact(x, x_scale, weight, weight_scale, bias):
    product = x.double() @ weight.double().t()
    return product * x_scale.double() * weight_scale.double().t() + bias.double()


def check(device, shape, dtype, config, out_dtype=torch.bfloat16) -> None:
    x, x_scale, weight, weight_scale, bias = operands(device, *shape, dtype)
    result = w8a8_matmul(x, weight, x_scale, weight_scale, bias, out_dtype, config)
    twin = w8a8_matmul_torch(
        x, weight, x_scale=x_scale, weight_scale=weight_scale, bias=bias, out_dtype=out_dtype
    )
    assert_as_exact_as(twin, result, exact(x, x_scale, weight, weight_scale, bias))


@pytest.mark.parametrize("dtype", [torch.int8, FP8])
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_product_is_the_twins(device, shape, swap, dtype) -> None:
    check(device, shape, dtype, replace(TILE, swap=swap))


@pytest.mark.parametrize("dtype", [torch.int8, FP8])
@pytest.mark.parametrize("num_splits", [2, 3, 8])
def test_splits_add_up(device, num_splits, dtype) -> None:
    # 5 blocks along k: 3 splits have 2, 2 and 1; 8 splits leave three without any.
    check(device, (5, 40, 272), dtype, replace(TILE, swap=True, num_splits=num_splits))


@pytest.mark.parametrize("out_dtype", [torch.float16, torch.float32])
def test_output_types(device, out_dtype) -> None:
    check(device, (3, 33, 130), torch.int8, TILE, out_dtype)


def test_without_the_copy_engine(device) -> None:
    check(device, (17, 40, 128), torch.int8, replace(TILE, tma=False, tma_x=False, swap=True))


def test_int8_sums_are_exact_where_fp32_would_round(device) -> None:
    dim = 16 * 1024 + 16
    x = torch.full((1, dim), 127, dtype=torch.int8, device=device)
    weight = torch.full((32, dim), 127, dtype=torch.int8, device=device)
    weight[:, -1] = 126  # the last bit of a sum above 2^24
    one = torch.ones(1, 1, device=device)
    config = replace(TILE, block_k=4096)

    result = w8a8_matmul(
        x, weight, one, one.expand(32, 1).contiguous(), None, torch.float32, config
    )

    assert result.double().unique().tolist() == [float(torch.tensor(127 * 127 * dim - 127).float())]


def test_a_row_does_not_depend_on_the_rows_beside_it(device) -> None:
    x, x_scale, weight, weight_scale, bias = operands(device, 16, 64, 256, torch.int8)
    args = (weight_scale, bias, torch.bfloat16, replace(TILE, swap=True, num_splits=2))
    together = w8a8_matmul(x, weight, x_scale, *args)

    alone = w8a8_matmul(x[5:6], weight, x_scale[5:6], *args)

    assert torch.equal(alone, together[5:6])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
@pytest.mark.parametrize(
    ("num_tokens", "out_dim", "dim"),
    [(1, 4096, 4096), (17, 28672, 512), (33, 1000, 1040), (64, 48, 8192), (300, 4096, 4096)],
)
def test_chosen_launches(device, num_tokens, out_dim, dim, dtype) -> None:
    check(device, (num_tokens, out_dim, dim), dtype, None)
