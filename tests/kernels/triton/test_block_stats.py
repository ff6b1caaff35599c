from __future__ import annotations

import math

import pytest
import torch

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
    config = sample_config(vocab_size)
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
    config = sample_config(5 * BLOCK)
    maxima, sums = block_stats(logits.to(device), None, config)
    highest = torch.finfo(torch.float32).max
    assert maxima[0].tolist() == [0.0, highest, -math.inf, -math.inf, 0.0]
    assert sums[0].tolist() == [1 - BLOCK, -1.0, 0.0, -1.0, BLOCK]


@pytest.mark.parametrize("vocab_size", [9 * BLOCK - 1, 8 * BLOCK])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_is_summed_up_alike_alone_and_beside_others(
    vocab_size: int, dtype: torch.dtype, device: torch.device
) -> None:
    """Else its token would depend, once in a million times, on how many rows there are."""
    logits = torch.randn(5, vocab_size, generator=torch.Generator().manual_seed(0)).to(dtype)
    many = logits.repeat(60 if device.type == "cuda" else 1, 1).to(device)
    config = sample_config(vocab_size)
    together = block_stats(many, None, config)
    alone = many[3:4].clone()
    for found, wanted in zip(block_stats(alone, None, config), together, strict=True):
        assert torch.equal(found[0], wanted[3])
        assert torch.equal(found[0], wanted[-2])
