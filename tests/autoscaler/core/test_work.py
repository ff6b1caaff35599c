from __future__ import annotations

from random import Random

import pytest

from shoal.autoscaler.core.work import PRIOR, TokenCost, TokenCosts


def observe(costs: TokenCosts, true: TokenCost, x_in: float, x_out: float, noise: float) -> None:
    tpot = true.base_s / (1 - true.load(x_in, x_out)) * noise
    costs.observe(input_tokens_per_s=x_in, output_tokens_per_s=x_out, running=x_out * tpot)


def test_costs_are_found_from_how_fast_answers_come() -> None:
    true, costs, rng = TokenCost(base_s=0.02, in_s=1.5e-4, out_s=4e-4), TokenCosts(), Random(0)
    for _ in range(400):
        noise = rng.uniform(0.95, 1.05)
        observe(costs, true, rng.uniform(0, 3000), rng.uniform(50, 900), noise)
    found = costs.cost
    assert found.base_s == pytest.approx(true.base_s, rel=0.1)
    assert found.load(2000, 500) == pytest.approx(true.load(2000, 500), rel=0.1)


def test_what_is_known_of_one_mix_holds_for_more_of_it() -> None:
    """Prompts and answers always in the same proportion: the two costs cannot be told apart, and
    need not be."""
    true, costs = TokenCost(base_s=0.02, in_s=1.5e-4, out_s=4e-4), TokenCosts()
    for step in range(300):
        scale = 0.2 + 0.6 * (step % 10) / 10
        observe(costs, true, 3000 * scale, 600 * scale, 1.0)
    assert costs.cost.load(3000, 600) == pytest.approx(true.load(3000, 600), rel=0.1)


def test_intervals_without_output_teach_nothing() -> None:
    costs = TokenCosts()
    costs.observe(input_tokens_per_s=100.0, output_tokens_per_s=0.0, running=1.0)
    costs.observe(input_tokens_per_s=100.0, output_tokens_per_s=10.0, running=0.0)
    assert costs.cost == PRIOR
    assert costs.num_observations == 0


def test_no_cost_is_ever_negative() -> None:
    costs, rng = TokenCosts(), Random(1)
    for _ in range(100):
        costs.observe(
            input_tokens_per_s=rng.uniform(0, 5000), output_tokens_per_s=rng.uniform(1, 500),
            running=rng.uniform(0.1, 50),
        )  # fmt: skip
        cost = costs.cost
        assert min(cost.base_s, cost.in_s, cost.out_s) >= 0.0
    assert cost.base_s + cost.in_s + cost.out_s > 0.0


def test_a_token_may_take_so_long_at_a_load_and_not_at_more() -> None:
    cost = TokenCost(base_s=0.02, in_s=0.0, out_s=1e-3)
    assert cost.max_load(0.1) == pytest.approx(0.8)
    assert cost.max_load(0.01) == 0.0
