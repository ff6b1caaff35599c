"""Several variants of one model, from observations to numbers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from shoal.autoscaler.core.decision import ReasonKind
from shoal.autoscaler.core.spec import Pace, ScalingSpec, SloSpec, VariantSpec
from shoal.autoscaler.core.state import LASTING_S
from tests.autoscaler.core.cluster import INTERVAL_S, OUT, Cluster, Machines, kinds, reason

SLO = SloSpec(ttft_s=2.0, tpot_s=0.1)
H100 = VariantSpec(name="h100", cost_per_hour=10.0, max_replicas=30)
SPOT = VariantSpec(name="spot", cost_per_hour=1.5, max_replicas=30, relative_capacity=0.25)
"""Of SPOT machines one takes 0.24 of what an H100 takes: see `slow`."""


def slow(**changes: object) -> Machines:
    """0.625 s of a replica for a request, and up to a load of 0.55: 0.88 requests a second."""
    settings = {"base_s": 0.045, "in_s": 4.25e-4, "out_s": 1e-3, **changes}
    return Machines(**settings)  # type: ignore[arg-type]


def make_cluster(*, h100: int = 0, spot: int = 0, gpu_budget: int | None = None) -> Cluster:
    spec = ScalingSpec(slo=SLO, variants=(H100, SPOT), gpu_budget=gpu_budget)
    return Cluster(spec, {"h100": Machines(ready=h100), "spot": slow(ready=spot)})


def test_variants_share_the_load() -> None:
    """Each takes its part: together they need what one of them alone would need."""
    cluster = make_cluster(h100=4, spot=4)
    cluster.run(15.0, 120)
    numbers = cluster.step(15.0).explain
    # 15 requests/s are 4.3 H100; four, and four of a quarter.
    assert numbers["both.load"] == pytest.approx(4.3, abs=0.4)
    assert numbers["h100.capacity_per_s"] == pytest.approx(3.48, rel=0.1)
    assert numbers["spot.capacity_per_s"] == pytest.approx(0.88, rel=0.1)


def test_tokens_for_the_money_are_told() -> None:
    cluster = make_cluster(h100=4, spot=4)
    cluster.run(15.0, 300)
    numbers = cluster.step(15.0).explain
    for variant in (H100, SPOT):
        per_hour = numbers[f"{variant.name}.capacity_per_s"] * OUT * 3600
        assert numbers[f"{variant.name}.tokens_per_cost"] == pytest.approx(
            per_hour / variant.cost_per_hour, rel=0.01
        )
    assert numbers["tokens_per_cost"] * numbers["cost_per_hour"] == pytest.approx(15 * OUT * 3600)


def test_one_that_never_ran_is_believed_by_the_others() -> None:
    spec = ScalingSpec(slo=SLO, variants=(H100, replace(SPOT, max_replicas=0)))
    cluster = Cluster(spec, {"h100": Machines(ready=4), "spot": slow()})
    cluster.run(10.0, 300)
    numbers = cluster.step(10.0).explain
    ratio = numbers["spot.capacity_per_s"] / numbers["h100.capacity_per_s"]
    assert ratio == pytest.approx(0.25)


def test_what_is_learnt_takes_the_place_of_what_was_said() -> None:
    """Said to be as good as an H100, four of them turn out to be."""
    spec = ScalingSpec(slo=SLO, variants=(H100, replace(SPOT, relative_capacity=1.0)))
    cluster = Cluster(spec, {"h100": Machines(ready=3), "spot": slow(ready=4)})
    first = cluster.step(10.0).explain
    assert first["spot.capacity_per_s"] == pytest.approx(first["h100.capacity_per_s"], rel=0.2)
    cluster.run(10.0, 300)
    last = cluster.step(10.0).explain
    assert last["spot.capacity_per_s"] < 0.35 * last["h100.capacity_per_s"]


def test_the_cheaper_one_is_tried_then_moved_to_and_nothing_is_short_on_the_way() -> None:
    cluster = make_cluster(h100=6)
    cluster.run(12.0, 120)
    steps = cluster.run(12.0, LASTING_S + 1500)
    tried = next(i for i, (_, spot) in enumerate(steps) if spot)
    moved = next(i for i, (_, spot) in enumerate(steps) if spot > 3)
    assert steps[tried][1] == 1
    assert (moved - tried) * INTERVAL_S >= 100  # its costs are learnt in between
    h100, spot = steps[-1]
    assert (h100, spot) == steps[-40]
    assert h100 * 10 + spot * 1.5 < 0.85 * steps[0][0] * 10
    # 12 requests/s are 3.45 H100 or 13.6 of the others; never less than that was asked for.
    assert all(n * 3.48 + m * 0.88 > 12.0 for n, m in steps[12:])
    before_go = next(i for i, (n, _) in enumerate(steps) if i > moved and n < steps[moved][0])
    assert (before_go - moved) * INTERVAL_S >= 30  # until the new ones have started


def test_a_steady_load_moves_nothing_to_and_fro() -> None:
    cluster = make_cluster(h100=3, spot=6)
    cluster.run(14.0, 1800)
    last = cluster.run(14.0, 3600)
    assert sum(a != b for a, b in pairwise(last)) <= 2


def test_spot_that_is_gone_is_replaced_and_comes_back() -> None:
    cluster = make_cluster(h100=1, spot=12)
    cluster.run(12.0, 1500)
    spot = cluster.machines["spot"]
    before = spot.ready
    assert before >= 10
    # All of it is taken away, and there is no place for more.
    spot.places = spot.ready = 0
    spot.unplaced = before
    steps, asked = [], before
    for _ in range(int(120 / INTERVAL_S)):
        steps.append(cluster.step(12.0))
        asked = max(asked, steps[-1].desired["spot"])
    patience = int(Pace().unschedulable_after_s / INTERVAL_S)
    words = reason(steps[0], ReasonKind.UNSCHEDULABLE, "spot")
    assert words == f"{before} without a place, not yet given up"
    assert ReasonKind.UNSCHEDULABLE in kinds(steps[-1])
    assert steps[patience + 2].desired["h100"] >= 4
    assert steps[-1].desired["spot"] == 1  # to find out when there is a place again
    assert cluster.machines["h100"].ready * 3.48 > 12.0
    # Places again: it is moved back to, without a shortage.
    spot.places = 100
    steps = [cluster.step(12.0) for _ in range(int((LASTING_S + 600) / INTERVAL_S))]
    assert any(ReasonKind.CHEAPER in kinds(step) for step in steps)
    assert steps[-1].desired["spot"] >= 10
    assert steps[-1].desired["h100"] <= 1
    assert all(s.desired["h100"] * 3.48 + s.desired["spot"] * 0.88 > 12.0 for s in steps)


def test_a_variant_without_a_place_freezes_no_other() -> None:
    cluster = make_cluster(h100=2, spot=2)
    cluster.machines["spot"].places = 2
    cluster.run(6.0, 300)
    steps = cluster.run(30.0, 300)
    assert steps[-1][0] >= 7
    assert cluster.machines["h100"].ready * 3.48 > 24.0


def test_unplaced_replicas_are_not_asked_for_again_and_again() -> None:
    """No place for any: what is asked for stays what is needed."""
    cluster = make_cluster(h100=2, spot=2)
    for machine in cluster.machines.values():
        machine.places = 2
    steps = cluster.run(14.0, 900)
    assert {h100 for h100, _ in steps[-60:]} == {steps[-1][0]}
    h100, spot = steps[-1]
    assert h100 * 3.48 + spot * 0.88 < 3 * 14.0


def test_a_variant_whose_target_does_not_answer_is_neither_replaced_nor_scaled() -> None:
    cluster = make_cluster(h100=2, spot=6)
    cluster.run(10.0, 900)
    before = {name: machine.desired for name, machine in cluster.machines.items()}
    for _ in range(24):
        seen = tuple(v for v in cluster.observe(10.0).variants if v.name == "h100")
        decision = cluster.step(10.0, variants=seen)
        assert decision.valid
        assert decision.desired == {"h100": before["h100"]}


def test_gpus_are_counted_over_all_variants() -> None:
    cluster = make_cluster(h100=2, gpu_budget=6)
    for rate in (5.0, 20.0, 40.0, 10.0, 40.0):
        for h100, spot in cluster.run(rate, 300):
            assert h100 + spot <= 6
    assert ReasonKind.GPU_BUDGET in kinds(cluster.step(40.0))
    # With six GPUs, six H100 do the most.
    assert cluster.machines["h100"].desired == 6


def test_one_that_cannot_meet_the_objective_is_not_asked_for() -> None:
    """Idle, it takes 0.12 s a token where 0.1 is asked for."""
    spec = ScalingSpec(slo=SLO, variants=(H100, SPOT))
    cluster = Cluster(spec, {"h100": Machines(ready=1), "spot": slow(base_s=0.12, ready=4)})
    _, before = cluster.run(3.0, 300)[-1]
    steps = cluster.run(15.0, 300)
    assert steps[-1][0] >= 5
    assert max(spot for _, spot in steps) <= before
