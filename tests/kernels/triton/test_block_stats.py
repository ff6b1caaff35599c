from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from shoal.kernels.dispatch import gpu_of
from shoal.kernels.launch.sample import BLOCK, sample_config
from shoal.kernels.triton.block_stats import block_stats
from tests.kernels.triton.closeness import assert_as_exact_as

# numpy's, of exponents of broken blocks: they become -inf, as on the GPU.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocab_size", [1, 255, 257, 1300])
def test_maxima_and_sums(vocab_size: int, dtype: torch.dtype, device: torch.device) -> None:
    generator = torch.Generator().manual_seed(vocab_size)
    logits = (3 * torch.randn(2, vocab_size, generator=generator)).to(dtype)
    temperature = torch.tensor([0.7, 2.0])
    config = sample_config(2, vocab_size, gpu_of(device))
    maxima, sums = block_stats(logits.to(device), temperature.to(device), config)
    padded = torch.full((2, maxima.shape[1] * BLOCK), -math.inf)
    padded[:, :vocab_size] = logits
    blocks = padded.view(2, -1, BLOCK)
    assert torch.equal(maxima.cpu(), blocks.amax(2))
    scores = (blocks - blocks.amax(2, keepdim=True)) / temperature.view(2, 1, 1)
    assert_as_exact_as(scores.exp().sum(2), sums.cpu(), scores.double().exp().sum(2))


def test_broken_blocks_have_negative_sums(device: torch.device) -> None:
    logits = torch.zeros(1, 5 * BLOCK)
    logits[0, 3] = math.nan
    logits[0, 2 * BLOCK - 1] = math.inf
    logits[0, 2 * BLOCK : 3 * BLOCK] = -math.inf
    logits[0, 3 * BLOCK : 4 * BLOCK] = math.nan
    config = sample_config(1, 5 * BLOCK, gpu_of(device))
    maxima, sums = block_stats(logits.to(device), None, config)
    highest = torch.finfo(torch.float32).max
    assert maxima[0].tolist() == [0.0, highest, -math.inf, -math.inf, 0.0]
    assert sums[0].tolist() == [1 - BLOCK, -1.0, 0.0, -1.0, BLOCK]


def test_blocks_are_summed_in_the_same_order_however_they_are_launched(
    device: torch.device,
) -> None:
    """Else a row's token would depend, once in a million times, on how many rows are beside it."""
    logits = torch.randn(1, 9 * BLOCK - 1, generator=torch.Generator().manual_seed(0)).to(device)
    config = sample_config(1, logits.shape[1], gpu_of(device))
    expected = block_stats(logits, None, config)
    for blocks, warps in ((2, 1), (4, 2), (16, 4), (16, 8)):
        other = replace(config, blocks_per_program=blocks, stats_warps=warps)
        for found, wanted in zip(block_stats(logits, None, other), expected, strict=True):
            assert torch.equal(found, wanted)
