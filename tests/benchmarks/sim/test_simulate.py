from __future__ import annotations

from random import Random

import pytest

from shoal.autoscaler.core.spec import ScalingSpec, SloSpec, VariantSpec
from shoal.benchmarks.sim.load import (
    flash_crowd,
    of_rows,
    poisson,
    sine,
    stationary,
    steps,
)
from shoal.benchmarks.sim.oracle import CapacityCurve, FixedReplicas, oracle
from shoal.benchmarks.sim.policies.shoal_policy import ShoalPolicy
from shoal.benchmarks.sim.replica import ReplicaSpec
from shoal.benchmarks.sim.request import SimRequest
from shoal.benchmarks.sim.simulate import Scenario, simulate
from shoal.benchmarks.workload.traces.row import TraceRow


def mean_lengths(requests: list[SimRequest]) -> tuple[float, float]:
    """Input and output tokens."""
    count = max(len(requests), 1)
    return (
        sum(r.num_input_tokens for r in requests) / count,
        sum(r.num_output_tokens for r in requests) / count,
    )


def peak_rate(requests: list[SimRequest], span_s: float = 60.0) -> float:
    """Largest mean rate of any whole span."""
    counts: dict[int, int] = {}
    for request in requests:
        key = int(request.arrival_s / span_s)
        counts[key] = counts.get(key, 0) + 1
    return max(counts.values(), default=0) / span_s


def scenario(rate: float = 6.0, *, replicas: int = 3, duration_s: float = 300.0) -> Scenario:
    requests = poisson(lambda t: rate, duration_s=duration_s, max_rate=rate)
    return Scenario(name="steady", requests=requests, first_replicas=replicas)


def test_a_simulation_is_repeatable_and_leaves_its_load_as_it_was() -> None:
    load = scenario()
    first, second = (simulate(load, FixedReplicas(3)) for _ in range(2))
    assert first == second
    assert load.requests[0].first_token_s is None
    assert first.attainment > 0.99
    assert first.replica_hours == pytest.approx(3 * load.requests[-1].arrival_s / 3600)
    assert (first.changes, first.turns) == (0, 0)


def test_too_few_replicas_do_not_meet_the_objective() -> None:
    assert simulate(scenario(replicas=1), FixedReplicas(1)).attainment < 0.5


def test_shoal_serves_a_step_and_gives_back_what_it_needed_for_it() -> None:
    rate = steps([(0, 2.0), (600, 8.0), (1200, 2.0)])
    requests = poisson(rate, duration_s=1800, max_rate=8.0)
    spec = ScalingSpec(
        slo=SloSpec(ttft_s=2.0, tpot_s=0.1), variants=(VariantSpec(max_replicas=20),)
    )
    outcome = simulate(
        Scenario(name="step", requests=requests, first_replicas=2), ShoalPolicy(spec)
    )
    ready = {time: ready for time, _, ready, _ in outcome.series}
    assert ready[900.0] > ready[500.0]
    assert ready[1700.0] < ready[900.0]
    assert outcome.attainment > 0.8
    assert outcome.replica_hours < 0.5 * 6


def test_the_bound_is_below_what_any_scaler_uses() -> None:
    load = scenario(8.0, replicas=2)
    curve = CapacityCurve(load, 0.99)
    assert curve.replicas(0.0) == 0
    assert curve.rate(1) < curve.rate(2)
    hours, series = oracle(load, curve)
    assert 0 < hours < simulate(load, FixedReplicas(4)).replica_hours
    assert all(replicas >= 1 for _, replicas in series)


def test_a_trace_can_be_made_busier() -> None:
    rows = [TraceRow(float(i), 100, 10) for i in range(600)]
    assert len(of_rows(rows)) == 600
    busy = of_rows(rows, copies=3)
    assert 1700 < len(busy) <= 1800
    assert peak_rate(busy) == pytest.approx(3.0, rel=0.1)
    assert [r.arrival_s for r in busy] == sorted(r.arrival_s for r in busy)


def test_requests_of_the_same_lengths_come_at_a_constant_rate() -> None:
    rng = Random(0)
    rows = [TraceRow(float(i), rng.randrange(1, 999), 7) for i in range(500)]
    like = of_rows(rows)
    drawn = stationary(like, 5.0, duration_s=1000.0)
    assert len(drawn) == pytest.approx(5000, rel=0.1)
    assert mean_lengths(drawn)[0] == pytest.approx(mean_lengths(like)[0], rel=0.1)


def test_rates_change_as_they_say() -> None:
    assert sine(10.0, 0.5, 100.0)(25.0) == pytest.approx(15.0)
    crowd = flash_crowd(2.0, 10.0, at_s=100.0, rise_s=10.0, decay_s=50.0)
    assert [crowd(t) for t in (0.0, 105.0, 110.0, 160.0)] == pytest.approx([2.0, 6.0, 10.0, 6.0])


def test_the_fleet_of_the_defaults_serves_a_single_request_well() -> None:
    requests = poisson(lambda t: 0.1, duration_s=30.0, max_rate=0.1, seed=1)
    load = Scenario(name="one", requests=requests, replica=ReplicaSpec())
    assert simulate(load, FixedReplicas(1)).attainment == 1.0
