from __future__ import annotations

import json

import pytest

from shoal.benchmarks.sim import compare as module
from shoal.benchmarks.sim.compare import Comparison, best_of, compare
from shoal.benchmarks.sim.load import poisson
from shoal.benchmarks.sim.policies.hpa import Hpa
from shoal.benchmarks.sim.report import render
from shoal.benchmarks.sim.simulate import Outcome, Scenario
from shoal.benchmarks.sim.summary import as_json, terminal_table


def outcome(policy: str, attainment: float, hours: float) -> Outcome:
    return Outcome(
        policy=policy, attainment=attainment, replica_hours=hours, ttft_p50_s=0.1, ttft_p99_s=1.0,
        changes=3, turns=1, series=[(60.0, 2, 1, 4.0), (120.0, 2, 2, 5.0)],
        met=[(30.0, 1.0), (90.0, 0.98)],
    )  # fmt: skip


def comparison(*others: Outcome, hours: float = 6.0) -> Comparison:
    return Comparison(
        scenario="<b>sine</b>", num_requests=1000, attainment=0.99, oracle_hours=5.0,
        oracle_series=[(0.0, 2), (60.0, 3)], shoal=outcome("Shoal", 0.995, hours),
        others={one.policy: one for one in others}, ahead=outcome("all known ahead", 0.992, 5.5),
        fixed=outcome("7 replicas", 0.993, 7.0),
    )  # fmt: skip


def test_the_best_of_several_targets_is_the_cheapest_that_meets_the_objective() -> None:
    tried = [outcome("a", 0.999, 9.0), outcome("b", 0.991, 7.0), outcome("c", 0.9, 2.0)]
    assert best_of(tried, 0.99).policy == "b"
    assert best_of(tried, 0.9999).policy == "a"


def test_shoal_is_held_against_the_best_other_and_the_bound() -> None:
    one = comparison(outcome("HPA", 0.992, 8.0), outcome("KPA", 0.8, 3.0))
    assert one.over_oracle == pytest.approx(0.2)
    assert one.saved == pytest.approx(0.25)
    none_meets = comparison(outcome("KPA", 0.8, 3.0))
    assert none_meets.best_other is None
    assert none_meets.saved is None


def test_page_and_table_show_every_scaler_and_trust_no_name() -> None:
    one = comparison(outcome("HPA", 0.992, 8.0), outcome("KPA", 0.8, 3.0))
    page = render([one])
    assert page.startswith("<!DOCTYPE html>")
    assert "<b>sine" not in page
    for text in ("HPA", "KPA", "80.00%, missed", "lower bound", "7 replicas", "<svg"):
        assert text in page
    assert terminal_table(one).row_count == 6
    figures = json.loads(as_json([one]))["loads"]["<b>sine</b>"]
    assert figures["saved_to_best_other"] == 0.25
    assert figures["meets_objective"]
    assert figures["scalers"]["Shoal"]["replica_hours"] == 6.0


def test_a_load_goes_through_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OTHERS", {"HPA": (Hpa, (8,))})
    requests = poisson(lambda t: 3.0, duration_s=400, max_rate=3.0)
    told: list[str] = []
    one = compare(Scenario(name="small", requests=requests), progress=told.append)
    assert told == ["lower bound", "all known ahead", "never scaled", "Shoal", "HPA 8 requests"]
    assert 0 < one.oracle_hours < one.shoal.replica_hours
    assert one.others["HPA"].policy == "HPA 8 requests"
    assert one.oracle_hours < one.ahead.replica_hours <= one.fixed.replica_hours
    assert min(one.ahead.attainment, one.fixed.attainment) >= 0.99
    assert (one.fixed.changes, one.ahead.turns) == (0, 0)


def test_outcomes_do_not_depend_on_the_number_of_processes() -> None:
    requests = poisson(lambda t: 3.0, duration_s=120, max_rate=3.0)
    scenario = Scenario(name="small", requests=requests)
    one, two = (list(module._simulate_all(scenario, [Hpa(8), Hpa(4)], n)) for n in (1, 2))
    assert one == two
