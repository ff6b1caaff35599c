from __future__ import annotations

import pytest
import torch

from shoal.kernels.launch.lora import LoraConfig
from shoal.kernels.lora import add_lora_torch, lora_mapping
from shoal.kernels.triton.lora import add_lora
from tests.kernels.triton.closeness import assert_as_exact_as
from tests.kernels.triton.row_data import rand

on_gpu = torch.cuda.is_available()
BF16 = pytest.param(
    torch.bfloat16,
    marks=pytest.mark.skipif(
        not on_gpu, reason="Triton's interpreter multiplies the bit patterns of bf16 matrices"
    ),
)
CONFIG = LoraConfig(num_splits=2, block_k=32, block_n=32)


class Layer:
    def __init__(self, device, num_tokens, num_adapters, max_rank, dim, slices, dtype):
        out_dim = sum(slices)
        self.slices = slices
        self.x = rand(num_tokens, dim, device=device, dtype=dtype, seed=1)
        self.out = rand(num_tokens, out_dim, device=device, dtype=dtype, seed=2)
        self.a = rand(num_adapters, len(slices), max_rank, dim, device=device, seed=3) / dim**0.5
        self.b = rand(num_adapters, out_dim, max_rank, device=device, seed=4)
        self.a, self.b = self.a.to(dtype), self.b.to(dtype)
        generator = torch.Generator().manual_seed(5)
        self.ranks = torch.randint(0, max_rank + 1, (num_adapters,), generator=generator).int()
        self.ranks[0] = max_rank
        for adapter, rank in enumerate(self.ranks.tolist()):  # what lies beyond is not read
            self.a[adapter, :, rank:] = float("nan")
            self.b[adapter, :, rank:] = float("nan")
        self.ranks = self.ranks.to(device)
        adapters = torch.randint(-1, num_adapters, (num_tokens,), generator=generator).int()
        self.use(adapters.to(device))

    def use(self, adapters) -> None:
        self.mapping = lora_mapping(adapters, num_adapters=len(self.ranks))

    def run(self, config):
        out = self.out.clone()
        return add_lora(out, self.x, self.a, self.b, self.mapping, self.ranks, self.slices, config)

    def _torch(self, dtype):
        return add_lora_torch(
            self.out.to(dtype), self.x.to(dtype), self.a.to(dtype), self.b.to(dtype),
            mapping=self.mapping, ranks=self.ranks, slice_sizes=self.slices,
        )  # fmt: skip

    def check(self, config) -> None:
        assert_as_exact_as(self._torch(self.x.dtype), self.run(config), exact_lora(self))


def exact_lora(layer: Layer):
    """In fp64, token by token."""
    out = layer.out.double()
    for token, adapter in enumerate(layer.mapping.token_adapters.tolist()):
        if not 0 <= adapter < len(layer.ranks):
            continue
        rank, start = int(layer.ranks[adapter]), 0
        for index, size in enumerate(layer.slices):
            shrunk = layer.a[adapter, index, :rank].double() @ layer.x[token].double()
            out[token, start : start + size] += (
                layer.b[adapter, start : start + size, :rank].double() @ shrunk
            )
            start += size
    return out


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, BF16])
@pytest.mark.parametrize(
    ("num_tokens", "num_adapters", "max_rank", "dim", "slices"),
    [
        (1, 1, 8, 16, (1,)),
        (7, 3, 16, 70, (40, 13)),
        (17, 2, 24, 64, (33, 8, 32)),
        (5, 2, 128, 33, (31,)),
    ],
)
def test_every_token_gets_its_adapter(
    device, num_tokens, num_adapters, max_rank, dim, slices, dtype
) -> None:
    Layer(device, num_tokens, num_adapters, max_rank, dim, slices, dtype).check(CONFIG)


@pytest.mark.parametrize("num_splits", [1, 3, 8])
def test_splits_add_up(device, num_splits) -> None:
    # 5 blocks along dim: 8 splits leave three without any.
    layer = Layer(device, 3, 2, 16, 160, (32,), torch.float16)
    layer.check(LoraConfig(num_splits=num_splits, block_k=32, block_n=32))


def test_one_adapter_has_all_tokens(device) -> None:
    layer = Layer(device, 33, 3, 8, 32, (32,), torch.float16)
    layer.use(torch.full((33,), 1, dtype=torch.int32, device=device))
    layer.check(CONFIG)


def test_tokens_without_an_adapter_keep_what_they_have(device) -> None:
    layer = Layer(device, 9, 3, 8, 32, (32,), torch.float16)
    layer.use(torch.full((9,), -1, dtype=torch.int32, device=device))

    assert torch.equal(layer.run(CONFIG), layer.out)


def test_a_token_does_not_depend_on_the_others(device) -> None:
    layer = Layer(device, 20, 3, 16, 64, (48,), torch.float16)
    layer.use(torch.full((20,), 0, dtype=torch.int32, device=device))
    together = layer.run(CONFIG)
    layer.x, layer.out = layer.x[7:8], layer.out[7:8]
    layer.use(torch.zeros(1, dtype=torch.int32, device=device))

    assert torch.equal(layer.run(CONFIG), together[7:8])


@pytest.mark.gpu
@pytest.mark.parametrize(("num_tokens", "max_rank"), [(1, 8), (64, 16), (300, 64), (64, 128)])
def test_chosen_launches(device, num_tokens, max_rank) -> None:
    layer = Layer(device, num_tokens, 8, max_rank, 4096, (4096, 1024, 1024), torch.bfloat16)
    layer.check(None)
