from __future__ import annotations

from collections.abc import Callable
from math import pi, sin
from random import Random

import pytest

from shoal.autoscaler.core.demand import Demand

HORIZON_S = 65.0


def run(demand: Demand, rate_at: Callable[[float], float], seconds: float, *, start_s: float = 0.0,
        seed: int = 0) -> list[tuple[float, float]]:  # fmt: skip
    """(what was expected for a time, what the rate was then), of Poisson counts."""
    rng = Random(seed)
    pairs = []
    for step in range(int(seconds / 5)):
        now = start_s + 5.0 * (step + 1)
        mean = rate_at(now - 2.5) * 5
        count = round(max(rng.gauss(mean, mean**0.5), 0.0))
        demand.add(now, 5.0, count, horizon_s=HORIZON_S)
        pairs.append((demand.outlook(HORIZON_S).expected, rate_at(now + HORIZON_S)))
    return pairs


def error(pairs: list[tuple[float, float]]) -> float:
    return (sum((a - b) ** 2 for a, b in pairs) / len(pairs)) ** 0.5


def test_a_steady_rate_is_known_well() -> None:
    pairs = run(Demand(share=0.9), lambda t: 20.0, 3600.0)
    assert error(pairs[-240:]) < 0.7  # a tenth of the error of one interval's count: 2


def test_a_slow_wave_is_foreseen_better_than_by_what_is() -> None:
    def wave(t: float) -> float:
        return 20 + 16 * sin(2 * pi * t / 1800)

    demand = Demand(share=0.9)
    pairs = run(demand, wave, 3600.0)
    naive = [(wave(5.0 * i), b) for i, (_, b) in enumerate(pairs)]
    assert error(pairs[200:]) < 0.7 * error(naive[200:])
    assert set(demand.weights()) & {"trend_20s", "trend_40s", "trend_80s", "plain"}


def test_a_jump_is_followed_within_two_intervals() -> None:
    demand = Demand(share=0.9)
    run(demand, lambda t: 8.0, 900.0)
    assert demand.outlook(HORIZON_S).surge == 0.0
    run(demand, lambda t: 20.0, 10.0, start_s=900.0)
    outlook = demand.outlook(HORIZON_S)
    assert outlook.surge > 14.0
    assert outlook.now > 14.0


def bursts(t: float) -> float:
    """Every ten minutes three times the load, for two."""
    return 24.0 if t % 600 < 120 else 8.0


def test_bursts_that_recur_are_learnt_and_expected_before_they_come() -> None:
    demand = Demand(share=0.9)
    run(demand, bursts, 2 * 3600.0)
    begins = 2 * 3600.0
    run(demand, bursts, 535.0, start_s=begins)
    # 65 s before the next burst begins, and 35 s into the calm that follows this one.
    assert any("found" in name for name in demand.weights())
    assert demand.outlook(HORIZON_S + 30.0).expected > 16.0


def test_a_given_period_is_used_when_it_fits_and_off_when_it_does_not() -> None:
    def of(seed: int, rate_at: Callable[[float], float]) -> Demand:
        demand = Demand(share=0.9, periods_s=(600.0,))
        run(demand, rate_at, 3600.0, seed=seed)
        return demand

    names = {"seasonal_naive_600s", "holt_winters_600s"}
    fits = of(1, bursts)
    assert sum(fits.weights().get(name, 0.0) for name in names) > 0.5
    # The same levels at random times: what came ten minutes ago says nothing.
    rng = Random(5)
    levels = [24.0 if rng.random() < 0.2 else 8.0 for _ in range(60)]
    off = of(1, lambda t: levels[int(t / 60) % 60])
    assert sum(off.weights().get(name, 0.0) for name in names) < 0.1


@pytest.mark.parametrize("rate", [0.0, 0.01])
def test_nearly_nothing_is_no_trouble(rate: float) -> None:
    demand = Demand(share=0.9)
    run(demand, lambda t: rate, 3600.0)
    outlook = demand.outlook(HORIZON_S)
    assert 0.0 <= outlook.expected < 0.1
    assert outlook.spread >= 1.0
