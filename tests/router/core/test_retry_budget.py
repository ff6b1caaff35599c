from __future__ import annotations

import pytest

from shoal.router.core.retry_budget import HedgeBudget, RetryBudget, backoff_s


def test_the_first_retries_are_free_and_then_a_share_of_the_requests() -> None:
    budget = RetryBudget(0.2, 3)
    assert [budget.try_retry(0.0) for _ in range(4)] == [True, True, True, False]
    for _ in range(10):
        budget.on_request(0.0)
    assert [budget.try_retry(0.0) for _ in range(3)] == [True, True, False]


def test_the_budget_of_ten_seconds_ago_is_gone_and_so_are_its_retries() -> None:
    budget = RetryBudget(0.5, 1)
    for _ in range(10):
        budget.on_request(0.0)
    assert sum(budget.try_retry(0.0) for _ in range(20)) == 6
    assert [budget.try_retry(10.5) for _ in range(2)] == [True, False]


@pytest.mark.parametrize(("ratio", "min_retries"), [(-0.1, 1), (0.1, -1)])
def test_budgets_are_not_negative(ratio: float, min_retries: int) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        RetryBudget(ratio, min_retries)


def test_no_hedge_is_free() -> None:
    budget = HedgeBudget(0.05)
    assert not budget.try_hedge(0.0)
    for _ in range(40):
        budget.on_request(0.0)
    assert [budget.try_hedge(1.0) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("ratio", [-0.1, 1.1])
def test_hedges_are_a_share(ratio: float) -> None:
    with pytest.raises(ValueError, match="max_ratio"):
        HedgeBudget(ratio)


@pytest.mark.parametrize(
    ("retry", "rand", "expected"),
    [
        (1, 0.99, 0.0),  # another worker, at once
        (2, 0.5, 0.005),
        (3, 0.5, 0.010),
        (4, 0.5, 0.020),
        (20, 0.5, 0.125),  # the bound
        (5_000, 0.5, 0.125),  # no overflow
        (3, 0.0, 0.0),
    ],
)
def test_backoff(retry: int, rand: float, expected: float) -> None:
    assert backoff_s(retry, rand, base_s=0.01, max_backoff_s=0.25) == pytest.approx(expected)
