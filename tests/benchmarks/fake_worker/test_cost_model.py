from __future__ import annotations

import pytest

from shoal.benchmarks.fake_worker.cost_model import CostModel
from shoal.errors import ConfigError


def test_prompts_cost_nothing_without_a_prefill_rate() -> None:
    assert CostModel(ttft_s=0.1).prefill_end(5.0, 9.0, 1_000_000) == 5.0


@pytest.mark.parametrize(
    ("now", "busy_until", "num_uncached", "end"),
    [
        (5.0, 0.0, 1000, 5.1),  # nobody before
        (5.0, 5.4, 1000, 5.5),  # waits for the one before
        (5.0, 5.4, 0, 5.4),
    ],
)
def test_prefill_is_one_resource(
    now: float, busy_until: float, num_uncached: int, end: float
) -> None:
    cost = CostModel(prefill_tokens_per_s=10_000)
    assert cost.prefill_end(now, busy_until, num_uncached) == pytest.approx(end)


def test_a_full_batch_is_slower() -> None:
    cost = CostModel(itl_s=0.02, itl_per_seq_s=0.001)
    assert cost.itl(1) == pytest.approx(0.021)
    assert cost.itl(30) == pytest.approx(0.05)


@pytest.mark.parametrize(
    "fields",
    [
        {"ttft_s": -0.1},
        {"itl_s": float("inf")},
        {"itl_per_seq_s": float("nan")},
        {"prefill_tokens_per_s": 0.0},
    ],
)
def test_costs_that_make_no_sense(fields: dict[str, float]) -> None:
    (name,) = fields
    with pytest.raises(ConfigError, match=name):
        CostModel(**fields)
