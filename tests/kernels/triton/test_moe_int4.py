from __future__ import annotations

import pytest
import torch

from shoal.kernels.int4_weight import quantize_int4
from shoal.kernels.launch.moe import MoeConfig
from shoal.kernels.launch.tile_config import TileConfig
from shoal.kernels.moe import moe_mlp_torch
from shoal.kernels.moe_int4 import moe_mlp_int4_torch
from shoal.kernels.triton.moe_int4 import moe_mlp_int4
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
CONFIG = MoeConfig(gate_up=TILE, down=TILE)


class Layer:
    def __init__(self, device, num_tokens, num_experts, top_k, dim, inner, dtype, **quantization):
        self.x = rand(num_tokens, dim, device=device, dtype=dtype, seed=1)
        gate_up = rand(num_experts * 2 * inner, dim, device=device, seed=2) / dim**0.5
        down = rand(num_experts * dim, inner, device=device, seed=3) / inner**0.5
        self.weights = {
            "gate_up": quantize_int4(gate_up.to(dtype), **quantization),
            "down": quantize_int4(down.to(dtype), **quantization),
        }
        self.num_experts = num_experts
        self.routes = {
            "topk_weights": rand(num_tokens, top_k, device=device, seed=4).softmax(-1),
            "topk_ids": rand(num_tokens, num_experts, device=device, seed=5)
            .argsort(-1)[:, :top_k]
            .int(),
        }

    def check(self, config) -> torch.Tensor:
        result = moe_mlp_int4(self.x, **self.weights, **self.routes, config=config)
        floats = [
            dequantize_int4(weight).to(self.x.dtype).view(self.num_experts, -1, weight.dim)
            for weight in self.weights.values()
        ]
        by_torch = moe_mlp_torch(self.x, *floats, **self.routes)
        # The twin is fp32 throughout: exact beside torch in 16 bits, which sets the tolerance.
        twin = moe_mlp_int4_torch(self.x.float(), **self.weights, **self.routes)
        assert_as_exact_as(by_torch, result, twin.double())
        return result


@pytest.mark.parametrize("dtype", [torch.float16, BF16])
@pytest.mark.parametrize(("group_size", "symmetric"), [(64, False), (128, True)])
@pytest.mark.parametrize(
    ("num_tokens", "num_experts", "top_k", "dim", "inner"), [(1, 8, 2, 64, 32), (4, 2, 1, 320, 40)]
)
def test_layer_is_as_exact_as_torchs(
    device, num_tokens, num_experts, top_k, dim, inner, group_size, symmetric, dtype
) -> None:
    Layer(
        device, num_tokens, num_experts, top_k, dim, inner, dtype,
        group_size=group_size, symmetric=symmetric,
    ).check(CONFIG)  # fmt: skip


def test_ids_that_are_no_experts_add_nothing(device) -> None:
    layer = Layer(device, 3, 4, 2, 64, 32, torch.float16)
    layer.routes["topk_ids"][0] = -1
    layer.routes["topk_ids"][1, 1] = 4

    assert not layer.check(CONFIG)[0].any()


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("num_tokens", "num_experts", "top_k", "dim", "inner"),
    [(1, 8, 2, 512, 1024), (65, 128, 8, 256, 192), (257, 8, 2, 512, 1024)],
)
def test_chosen_launches(device, num_tokens, num_experts, top_k, dim, inner) -> None:
    Layer(device, num_tokens, num_experts, top_k, dim, inner, torch.bfloat16).check(None)
