from __future__ import annotations

import pytest

from shoal.autoscaler.core.ensemble import Ensemble


class Says:
    """A forecast that never changes."""

    def __init__(self, rate: float | None) -> None:
        self.rate = rate

    def add(self, now: float, interval_s: float, count: float) -> None:
        pass

    def at(self, horizon_s: float) -> float | None:
        return self.rate


def run(ensemble: Ensemble, rate: float, *, seconds: float = 600.0, start_s: float = 0.0) -> None:
    for step in range(int(seconds / 5)):
        ensemble.add(start_s + 5.0 * (step + 1), 5.0, rate * 5, horizon_s=60.0)


def test_the_plain_forecast_is_believed_until_others_have_earned_it() -> None:
    ensemble = Ensemble({"plain": Says(4.0), "other": Says(10.0)}, plain="plain")
    assert ensemble.weights() == {"plain": 1.0}
    run(ensemble, 10.0, seconds=50.0)  # no forecast has come due yet
    assert ensemble.at(60.0) == 4.0


def test_who_was_right_is_believed() -> None:
    ensemble = Ensemble({"plain": Says(4.0), "right": Says(10.0), "near": Says(9.0)}, plain="plain")
    run(ensemble, 10.0)
    weights = ensemble.weights()
    assert weights["right"] > 0.7 > weights["near"] > weights["plain"]
    assert sum(weights.values()) == pytest.approx(1.0)
    assert ensemble.at(60.0) == pytest.approx(10.0, abs=0.4)


def test_one_that_does_worse_than_none_is_off() -> None:
    ensemble = Ensemble({"plain": Says(10.0), "season": Says(10.4)}, plain="plain")
    run(ensemble, 10.0)
    assert ensemble.weights() == {"plain": 1.0}
    # The load changes in its favour: it comes back.
    run(ensemble, 13.0, start_s=600.0)
    assert ensemble.weights()["season"] > 0.9


def test_one_that_knows_nothing_yet_has_no_weight_and_no_loss() -> None:
    late = Says(None)
    ensemble = Ensemble({"plain": Says(9.0), "late": late}, plain="plain")
    run(ensemble, 10.0, seconds=300.0)
    assert ensemble.weights() == {"plain": 1.0}
    late.rate = 10.0
    run(ensemble, 10.0, start_s=300.0)
    assert ensemble.weights()["late"] > 0.5


def test_one_that_joins_has_to_earn_its_weight() -> None:
    ensemble = Ensemble({"plain": Says(8.0)}, plain="plain")
    run(ensemble, 10.0, seconds=300.0)
    ensemble.join("new", Says(10.0))
    assert ensemble.weights() == {"plain": 1.0}
    run(ensemble, 10.0, start_s=300.0)
    assert ensemble.weights()["new"] > 0.9


def test_without_a_horizon_forecasts_are_for_now() -> None:
    ensemble = Ensemble({"plain": Says(3.0), "right": Says(10.0)}, plain="plain")
    for step in range(100):
        ensemble.add(5.0 * (step + 1), 5.0, 50.0, horizon_s=0.0)
    assert ensemble.at(0.0) == pytest.approx(10.0, abs=0.01)
