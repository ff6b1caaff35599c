"""Block copies against indexing: equal to the bit, and nothing else is touched."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from shoal.kernels.copy_blocks import copy_blocks, swap_blocks, swap_blocks_torch
from shoal.kernels.dispatch import triton_on_cpu
from tests.kernels.triton.row_data import rand


@pytest.fixture(autouse=True)
def bodies_in_triton():
    with triton_on_cpu():
        yield


def caches_of(device: torch.device, *, seed: int = 0, blocks: int = 9) -> list[Tensor]:
    """K and V of two layers, one with its heads outside, and scales by token: three block sizes."""
    shapes = [(blocks, 4, 3, 10), (blocks, 4, 3, 10), (blocks, 3, 4, 10), (blocks, 4, 3)]
    key, value, outside, scale = (
        rand(*shape, device=device, seed=seed + i) for i, shape in enumerate(shapes)
    )
    return [key.bfloat16(), value.bfloat16(), outside.transpose(1, 2), scale, key.to(torch.int8)]


PAIRS = [[0, 8], [3, 1], [5, 2], [0, 7]]


def test_copy_blocks(device: torch.device) -> None:
    caches, pairs = caches_of(device), torch.tensor(PAIRS)
    expected = [cache.clone() for cache in caches]
    swap_blocks_torch(expected, expected, pairs)
    copy_blocks(caches, pairs)
    for cache, other in zip(caches, expected, strict=True):
        assert torch.equal(cache, other)


@pytest.mark.parametrize("on_device", [False, True])
def test_swap_between_caches_of_different_sizes(on_device: bool, device: torch.device) -> None:
    sources, destinations = caches_of(device), caches_of(device, seed=10, blocks=30)
    pairs = torch.tensor([[8, 29], [0, 0], [4, 17]])
    if on_device:
        pairs = pairs.to(device)
    expected = [cache.clone() for cache in destinations]
    swap_blocks_torch(sources, expected, pairs)
    swap_blocks(sources, destinations, pairs)
    for cache, other in zip(destinations, expected, strict=True):
        assert torch.equal(cache, other)


@pytest.mark.parametrize("dim", [1, 3, 4, 8, 2048, 2049, 5000])
def test_words_of_every_width(dim: int, device: torch.device) -> None:
    source = torch.randint(0, 256, (4, dim), dtype=torch.uint8)
    cache = source.to(device)
    copy_blocks([cache], torch.tensor([[3, 0]]))
    source[0] = source[3]
    assert torch.equal(cache.cpu(), source)


def test_blocks_of_one_tensor_between_those_of_others(device: torch.device) -> None:
    """A host tier keeps the blocks of all layers together: each tensor is a slice of it."""
    tier = torch.full((5, 3, 6), -1.0, device=device)
    sources = [rand(4, 6, device=device, seed=i) for i in range(3)]
    swap_blocks(sources, list(tier.unbind(1)), torch.tensor([[2, 4], [0, 1]]))
    for i, source in enumerate(sources):
        assert torch.equal(tier[4, i], source[2])
        assert torch.equal(tier[1, i], source[0])
    assert (tier[[0, 2, 3]] == -1).all()


def test_nothing_to_copy(device: torch.device) -> None:
    caches = caches_of(device)
    copy_blocks(caches, torch.empty(0, 2, dtype=torch.int64))
    copy_blocks([], torch.tensor(PAIRS))
    copy_blocks([torch.empty(4, 0, device=device)], torch.tensor([[0, 1]]))
    for cache, other in zip(caches, caches_of(device), strict=True):
        assert torch.equal(cache, other)


@pytest.mark.gpu
@pytest.mark.parametrize("to_host", [False, True])
def test_swap_with_pinned_memory(to_host: bool, device: torch.device) -> None:
    here = caches_of(device)
    there = [cache.cpu().pin_memory() for cache in caches_of(device, seed=10, blocks=30)]
    sources, destinations = (here, there) if to_host else (there, here)
    pairs = torch.tensor([[8, 2], [0, 0], [4, 7]])
    expected = [cache.cpu().clone() for cache in destinations]
    swap_blocks_torch([cache.cpu() for cache in sources], expected, pairs)
    swap_blocks(sources, destinations, pairs)
    torch.cuda.synchronize()
    for cache, other in zip(destinations, expected, strict=True):
        assert torch.equal(cache.cpu(), other)


@pytest.mark.gpu
def test_offsets_pass_two_to_the_31(device: torch.device) -> None:
    last, odd = 2**17 + 1, 2**14 + 1  # words of one byte
    cache = torch.zeros(last + 1, odd, dtype=torch.uint8, device=device)
    cache[last], cache[1] = 3, 4
    copy_blocks([cache], torch.tensor([[last, 0], [1, last - 1]]))
    assert (cache[0] == 3).all()
    assert (cache[last - 1] == 4).all()
    assert not cache[2].any()
