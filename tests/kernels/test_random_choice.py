from __future__ import annotations

import math

import pytest
import torch

from shoal.kernels.random_choice import BLOCK, choose_tokens, mix64, padded_size


def draw(probs: list[float] | torch.Tensor, num_draws: int, *, seed: int = 0) -> torch.Tensor:
    """One draw per output position of a request."""
    probs = torch.as_tensor(probs, dtype=torch.float32)
    weights = torch.zeros(num_draws, padded_size(len(probs)))
    weights[:, : len(probs)] = probs
    seeds = torch.full((num_draws,), seed)
    return choose_tokens(weights, seeds, torch.arange(num_draws))


def chi_square(counts: torch.Tensor, probs: torch.Tensor) -> float:
    """Pearson's statistic in standard deviations above its mean (normal approximation)."""
    expected = probs * counts.sum()
    degrees = int((probs > 0).sum()) - 1
    used = probs > 0
    statistic = float((((counts - expected) ** 2)[used] / expected[used]).sum())
    return (statistic - degrees) / math.sqrt(2 * degrees)


@pytest.mark.parametrize("seed", [0, -1])
@pytest.mark.parametrize("vocab_size", [2, 7, BLOCK, BLOCK + 1, 1000])
def test_draws_follow_the_weights(vocab_size: int, seed: int) -> None:
    probs = torch.rand(vocab_size, generator=torch.Generator().manual_seed(vocab_size)) + 0.1
    probs /= probs.sum()
    counts = torch.bincount(draw(probs, 6_000, seed=seed), minlength=vocab_size)
    assert counts.shape == probs.shape
    assert abs(chi_square(counts, probs)) < 5.0


def test_draws_at_one_position_follow_the_weights_over_seeds() -> None:
    """Seeds 0, 1, 2, ... are what people use: neighbours must not resemble each other."""
    probs = torch.tensor([0.5, 0.25, 0.125, 0.125])
    weights = torch.zeros(6_000, BLOCK)
    weights[:, :4] = probs
    drawn = choose_tokens(weights, torch.arange(6_000), torch.zeros(6_000, dtype=torch.int64))
    assert abs(chi_square(torch.bincount(drawn, minlength=4), probs)) < 5.0
    pairs = drawn[:-1] * 4 + drawn[1:]
    joint = (probs.unsqueeze(1) * probs).flatten()
    assert abs(chi_square(torch.bincount(pairs, minlength=16), joint)) < 5.0


def test_the_choice_of_a_block_says_nothing_about_the_choice_inside_it() -> None:
    probs = torch.zeros(4, BLOCK)
    probs[:, :4] = 1 / 16
    counts = torch.bincount(draw(probs.flatten(), 6_000), minlength=4 * BLOCK)
    assert abs(chi_square(counts, probs.flatten())) < 5.0


def test_successive_positions_are_independent() -> None:
    probs = torch.tensor([0.4, 0.3, 0.2, 0.1])
    drawn = draw(probs, 6_000, seed=7)
    pairs = drawn[:-1] * 4 + drawn[1:]
    joint = (probs.unsqueeze(1) * probs).flatten()
    assert abs(chi_square(torch.bincount(pairs, minlength=16), joint)) < 5.0


def test_weights_need_not_sum_to_one() -> None:
    assert torch.equal(draw([3.0, 1.0], 500), draw([0.75, 0.25], 500))


def test_weight_zero_is_never_drawn() -> None:
    drawn = draw([0.0, 1e-30, 0.0, 1.0], 2_000)
    assert set(drawn.tolist()) == {3}


def test_small_changes_of_the_weights_hardly_ever_change_the_draw() -> None:
    """Batch shapes move logits in the last bits; a flat vocabulary is the worst case."""
    generator = torch.Generator().manual_seed(0)
    probs = torch.rand(5_000, generator=generator)
    noise = 1.0 + 1e-5 * torch.randn(5_000, generator=generator)
    same = draw(probs, 2_000) == draw(probs * noise, 2_000)
    assert same.float().mean() > 0.998


def test_mix64_equals_splitmix64() -> None:
    """Reference values of Vigna's splitmix64.c seeded with 1234567."""
    gamma = 0x9E3779B97F4A7C15
    states = [(1234567 + gamma * (i + 1)) % 2**64 for i in range(5)]
    signed = torch.tensor([state - 2**64 if state >= 2**63 else state for state in states])
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert [value % 2**64 for value in mix64(signed).tolist()] == expected
