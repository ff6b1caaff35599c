from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from shoal.kernels.launch.moe import MoeConfig
from shoal.kernels.launch.tile_config import TileConfig
from shoal.kernels.moe import moe_mlp_torch
from shoal.kernels.quantize_rows import quantize_rows_torch
from shoal.kernels.triton.moe import moe_mlp
from tests.kernels.triton.closeness import assert_as_exact_as
from tests.kernels.triton.row_data import rand

on_gpu = torch.cuda.is_available()
needs_gpu = pytest.mark.skipif(
    not on_gpu, reason="Triton's interpreter multiplies the bit patterns of narrow floats"
)
TILE = TileConfig(block_m=16, block_n=32, block_k=32, num_warps=4, num_stages=2, imprecise=32)
SWAPPED = replace(TILE, swap=True)


def config_of(tile: TileConfig) -> MoeConfig:
    return MoeConfig(gate_up=tile, down=tile)


class Layer:
    """Random experts, tokens and routes, and the layer's exact result."""

    def __init__(self, device, num_tokens, num_experts, top_k, dim, inner, dtype=torch.float16):
        self.x = rand(num_tokens, dim, device=device, dtype=dtype, seed=1)
        gate_up = rand(num_experts, 2 * inner, dim, device=device, seed=2) / dim**0.5
        down = rand(num_experts, dim, inner, device=device, seed=3) / inner**0.5
        self.gate_up, self.down = gate_up.to(dtype), down.to(dtype)
        self.weights = rand(num_tokens, top_k, device=device, seed=4).softmax(-1)
        self.ids = rand(num_tokens, num_experts, device=device, seed=5).argsort(-1)[:, :top_k].int()
        self.scales = (None, None)

    def quantize(self, dtype):
        self.gate_up, gate_up_scale = quantize_rows_torch(self.gate_up, dtype=dtype)
        self.down, down_scale = quantize_rows_torch(self.down, dtype=dtype)
        self.scales = (gate_up_scale[..., 0], down_scale[..., 0])
        return self

    def run(self, config):
        return moe_mlp(
            self.x, self.gate_up, self.down, self.weights, self.ids, *self.scales, config
        )

    def twin(self):
        return moe_mlp_torch(
            self.x, self.gate_up, self.down, topk_weights=self.weights, topk_ids=self.ids,
            gate_up_scale=self.scales[0], down_scale=self.scales[1],
        )  # fmt: skip

    def exact(self):
        """In fp64, token by token."""
        out = torch.zeros(self.x.shape, dtype=torch.float64, device=self.x.device)
        for token, experts in enumerate(self.ids.tolist()):
            for slot, expert in enumerate(experts):
                if not 0 <= expert < len(self.down):
                    continue
                gate, up = (self.gate_up[expert].double() @ self.x[token].double()).chunk(2)
                activated = torch.nn.functional.silu(gate) * up
                partial = self.down[expert].double() @ activated
                out[token] += partial * self.weights[token, slot].double()
        return out


@pytest.mark.parametrize("tile", [TILE, SWAPPED], ids=["plain", "swapped"])
@pytest.mark.parametrize(
    ("num_tokens", "num_experts", "top_k", "dim", "inner"),
    [(1, 1, 1, 16, 16), (1, 8, 2, 64, 32), (5, 4, 3, 72, 40), (33, 2, 1, 32, 64)],
)
def test_layer_is_as_exact_as_torchs(
    device, num_tokens, num_experts, top_k, dim, inner, tile
) -> None:
    layer = Layer(device, num_tokens, num_experts, top_k, dim, inner)

    assert_as_exact_as(layer.twin(), layer.run(config_of(tile)), layer.exact())


@needs_gpu
@pytest.mark.parametrize("tile", [TILE, SWAPPED], ids=["plain", "swapped"])
def test_bf16(device, tile) -> None:
    layer = Layer(device, 7, 5, 3, 72, 40, torch.bfloat16)

    assert_as_exact_as(layer.twin(), layer.run(config_of(tile)), layer.exact())


@pytest.mark.parametrize("tile", [TILE, SWAPPED], ids=["plain", "swapped"])
@pytest.mark.parametrize("dtype", [torch.int8, pytest.param(torch.float8_e4m3fn, marks=needs_gpu)])
def test_8_bit_experts(device, dtype, tile) -> None:
    layer = Layer(device, 5, 4, 2, 64, 48).quantize(dtype)

    result, twin = layer.run(config_of(tile)), layer.twin()

    # Both quantize the activation: where it lies between two codes, a last bit decides which, so
    # the two differ by as much as some of its entries do by a code. Held against the size of what
    # quantization itself costs, which the layer's own exact result (of unquantized x) shows.
    dequantized = Layer(device, 5, 4, 2, 64, 48)
    cost = (twin.double() - dequantized.exact()).abs().max()
    assert (result.double() - twin.double()).abs().max() <= cost / 2


@pytest.mark.parametrize("tile", [TILE, SWAPPED], ids=["plain", "swapped"])
def test_one_expert_gets_all_tokens(device, tile) -> None:
    layer = Layer(device, 33, 4, 1, 32, 32)
    layer.ids.fill_(2)
    layer.gate_up[[0, 1, 3]] = float("nan")  # nobody's weights are not read

    assert_as_exact_as(layer.twin(), layer.run(config_of(tile)), layer.exact())


def test_ids_that_are_no_experts_add_nothing(device) -> None:
    layer = Layer(device, 6, 4, 2, 32, 32)
    layer.ids[0] = -1
    layer.ids[1, 1] = 4

    result = layer.run(config_of(SWAPPED))

    assert not result[0].any()
    assert_as_exact_as(layer.twin(), result, layer.exact())


def test_a_token_does_not_depend_on_the_others(device) -> None:
    layer = Layer(device, 20, 4, 2, 64, 32)
    together = layer.run(config_of(SWAPPED))
    layer.x, layer.weights, layer.ids = (t[7:8] for t in (layer.x, layer.weights, layer.ids))

    assert torch.equal(layer.run(config_of(SWAPPED)), together[7:8])


@pytest.mark.gpu
@pytest.mark.parametrize("weights", [None, torch.int8, torch.float8_e4m3fn])
@pytest.mark.parametrize(
    ("num_tokens", "num_experts", "top_k", "dim", "inner"),
    [(1, 8, 2, 512, 1024), (65, 128, 8, 256, 192), (257, 6, 2, 328, 72), (1000, 8, 2, 512, 1024)],
)
def test_chosen_launches(device, num_tokens, num_experts, top_k, dim, inner, weights) -> None:
    layer = Layer(device, num_tokens, num_experts, top_k, dim, inner, torch.bfloat16)
    exact = layer.exact()
    if weights is None:
        assert_as_exact_as(layer.twin(), layer.run(None), exact)
    else:
        layer.quantize(weights)
        twin = layer.twin()
        cost = (twin.double() - exact).abs().max()
        assert (layer.run(None).double() - twin.double()).abs().max() <= cost
