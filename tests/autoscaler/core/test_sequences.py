"""What `decide` does with what goes wrong: rows of what happens, and the numbers that follow."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from shoal.autoscaler.core.decision import Decision, ReasonKind
from shoal.autoscaler.core.observation import Observation, VariantObservation
from shoal.autoscaler.core.scaler import decide
from shoal.autoscaler.core.spec import Pace, Role, ScalingSpec, SloSpec, VariantSpec
from shoal.autoscaler.core.state import ScalerState
from tests.autoscaler.core.cluster import INTERVAL_S, Cluster, Machines, kinds, reason

SLO = SloSpec(ttft_s=2.0, tpot_s=0.1)


def make_cluster(*, replicas: int, **variant: Any) -> Cluster:
    """A replica takes 3.5 requests a second."""
    settings = {"max_replicas": 50, **variant}
    spec = ScalingSpec(slo=SLO, variants=(VariantSpec(**settings),))
    return Cluster(spec, {"default": Machines(ready=replicas)})


def asked(cluster: Cluster, rate: float, seconds: float) -> list[int]:
    return [number for (number,) in cluster.run(rate, seconds)]


@pytest.mark.parametrize("rate", [2.6, 2.9, 3.1, 3.3, 3.6])
def test_around_one_replica_it_does_not_flap(rate: float) -> None:
    """Rates at which one replica is nearly enough, and just not any more; each interval has a
    request or two more or less."""
    cluster = make_cluster(replicas=2)
    noise = (0, 1, -1, 2, -2, 1, 0, -1)
    numbers = []
    for step in range(720):
        arrivals = round(rate * INTERVAL_S) + noise[step % 8]
        numbers.append(cluster.step(rate, arrivals=arrivals).desired["default"])
    assert set(numbers[240:]) <= {1, 2}
    assert sum(a != b for a, b in pairwise(numbers[240:])) <= 2


def test_one_goes_only_when_those_that_stay_are_enough_and_says_so() -> None:
    cluster = make_cluster(replicas=6)
    decisions = [cluster.step(10.0) for _ in range(360)]
    pairs = [(a.desired["default"], d) for a, d in pairwise(decisions)]
    fewer = [(before, d) for before, d in pairs if d.desired["default"] < before]
    assert fewer
    for before, decision in fewer:
        number, numbers = decision.desired["default"], decision.explain
        assert numbers["default.down_to"] <= number + 1e-6
        words = reason(decision, ReasonKind.ENOUGH, "default")
        share = numbers["default.load"] / number
        assert f"{number} in place of {before}, what stays is {share:.0%} busy" in words
        assert share < 1


def test_first_requests_of_a_new_replica_teach_nothing() -> None:
    """Those that came late while one started say nothing of the headroom."""

    def beta(started_s: tuple[float, ...]) -> float:
        cluster = make_cluster(replicas=4)
        cluster.run(7.0, 600)
        for _ in range(60):
            [seen] = cluster.observe(7.0).variants
            late = replace(seen, num_in_time=0, start_up_s=started_s)
            decision = cluster.step(7.0, variants=(late,))
        return decision.explain["default.beta"]

    assert beta((60.0,)) < beta(())


def test_requests_that_were_late_for_want_of_a_replica_are_no_lesson() -> None:
    """All that can be had is there: more headroom than that cannot be had either."""
    cluster = make_cluster(replicas=4, max_replicas=4)
    cluster.run(7.0, 600)
    before = cluster.step(7.0).explain["default.beta"]
    for _ in range(60):
        [seen] = cluster.observe(30.0).variants
        cluster.step(30.0, variants=(replace(seen, num_in_time=0, num_waiting=50.0),))
    assert cluster.step(30.0).explain["default.beta"] <= before + 0.1


@pytest.mark.parametrize(
    "late",
    [{"num_tpot_in_time": 0}, {"num_tpot_in_time": None, "tpot_s": 0.12}, {"num_in_time": 0}],
)
def test_answers_that_are_too_slow_add_replicas(late: dict[str, Any]) -> None:
    """Though first tokens come in time, and though the model finds the load light."""
    cluster = make_cluster(replicas=4)
    cluster.run(10.0, 900)
    before = cluster.machines["default"].desired
    for _ in range(120):
        [seen] = cluster.observe(10.0).variants
        cluster.step(10.0, variants=(replace(seen, **late),))
    assert cluster.machines["default"].desired > before


def test_an_objective_out_of_reach_is_told_and_bounded() -> None:
    spec = ScalingSpec(slo=replace(SLO, tpot_s=0.015), variants=(VariantSpec(max_replicas=50),))
    cluster = Cluster(spec, {"default": Machines(ready=4)})
    decisions = [cluster.step(6.0) for _ in range(240)]
    assert ReasonKind.SLO_OUT_OF_REACH in kinds(decisions[-1])
    # At a fifth of its time each: 7 are busy that long. What headroom is learnt comes on top.
    assert decisions[120].explain["default.load"] == pytest.approx(6.0 * 0.23 / 0.2, rel=0.1)


# -- others who write ----------------------------------------------------------------------


@pytest.mark.parametrize(("edit", "kept"), [(9, 9), (7, 7)])
def test_an_edit_is_told_and_kept_for_a_while(edit: int, kept: int) -> None:
    cluster = make_cluster(replicas=4)
    cluster.run(7.0, 900)
    decided = cluster.machines["default"].desired
    cluster.machines["default"].scale(edit, cluster.now)
    decision = cluster.step(7.0)
    words = f"{edit} in place of {decided}: somebody else changed it"
    assert reason(decision, ReasonKind.EDITED, "default") == words
    steps = asked(cluster, 7.0, Pace().scale_down_delay_s + 2 * INTERVAL_S)
    assert steps[: int(Pace().scale_down_delay_s / INTERVAL_S) - 1] == [kept] * 11
    assert steps[-1] < kept
    assert ReasonKind.EDITED not in kinds(cluster.step(7.0))


def test_an_edit_that_leaves_too_few_is_told_and_undone() -> None:
    cluster = make_cluster(replicas=6)
    cluster.run(14.0, 900)
    decided = cluster.machines["default"].desired
    cluster.machines["default"].scale(1, cluster.now)
    decision = cluster.step(14.0)
    assert ReasonKind.EDITED in kinds(decision)
    assert decision.desired["default"] >= decided - 1


@pytest.mark.parametrize(
    ("decided", "seen"),
    [
        # On the way there, in steps, late, or not at all: nobody else.
        (6, [3, 4, 5, 6]),
        (6, [3, 3, 3, 6]),
        (1, [3, 2, 1, 1]),
        (6, [3, 3, 3, 3]),
    ],
)
def test_what_comes_late_is_no_edit(decided: int, seen: list[int]) -> None:
    from shoal.autoscaler.core.edits import Edits

    edits = Edits(decided=decided)
    assert not any(edits.observe(number, now * 5.0, 60.0) for now, number in enumerate(seen))


# -- units ---------------------------------------------------------------------------------


def observed(
    desired: int, ready: int, *, name: str = "default", pending: int = 0, draining: int = 0,
    unschedulable: int = 0,
) -> VariantObservation:  # fmt: skip
    return VariantObservation(
        name=name, desired=desired, ready=ready, pending=pending, draining=draining,
        unschedulable=unschedulable, num_running=50.0, num_waiting=400.0,
        input_tokens_per_s=3000.0, output_tokens_per_s=600.0,
    )  # fmt: skip


def first_decision(spec: ScalingSpec, *variants: VariantObservation) -> Decision:
    """With far more requests than they can take."""
    observation = Observation(
        interval_s=5.0, arrivals=5000, input_tokens=5_000_000, output_tokens=3000,
        variants=variants,
    )  # fmt: skip
    return decide(spec, observation, ScalerState.of(spec), 5.0)


@pytest.mark.parametrize(
    ("pods", "gpus", "budget", "seen", "number"),
    [
        # A group of 4 pods with 8 GPUs: 32 GPUs a replica.
        (4, 8, 32 * 3, observed(1, 1), 3),
        (4, 8, 32 * 3 - 1, observed(1, 1), 2),
        (4, 8, 31, observed(0, 0), 0),
        (4, 8, 32, observed(0, 0), 1),
        (2, 8, 100, observed(2, 2), 6),
        # Without a GPU there is nothing to count.
        (4, 0, 0, observed(1, 1), 5),
        # A group that drains holds its GPUs until it is gone, and so does one that starts.
        (4, 8, 32 * 4, observed(1, 1, draining=2), 2),
        (4, 8, 32 * 4, observed(3, 1, pending=2, draining=1), 3),
        # More than the budget already: no more, and nothing taken away.
        (4, 8, 32, observed(2, 2), 2),
    ],
)
def test_the_budget_counts_groups(
    pods: int, gpus: int, budget: int, seen: VariantObservation, number: int
) -> None:
    variant = VariantSpec(max_replicas=50, pods_per_replica=pods, gpus_per_pod=gpus)
    spec = ScalingSpec(slo=SLO, variants=(variant,), gpu_budget=budget)
    decision = first_decision(spec, seen)
    assert decision.desired == {"default": number}
    if gpus:
        assert ReasonKind.GPU_BUDGET in kinds(decision)


@pytest.mark.parametrize(
    "before",
    [
        observed(2, 2, name="b"),
        observed(1, 1, name="b", draining=1),
        observed(1, 0, name="b", pending=1, draining=1),
    ],
)
def test_gpus_of_a_variant_that_cannot_be_seen_are_not_given_away(
    before: VariantObservation,
) -> None:
    spec = ScalingSpec(
        slo=SLO, variants=(VariantSpec(name="a"), VariantSpec(name="b")), gpu_budget=4
    )
    state = ScalerState.of(spec)
    both = (observed(1, 1, name="a"), before)
    observation = Observation(interval_s=5.0, arrivals=0, variants=both)
    decide(spec, observation, state, 5.0)
    alone = replace(observation, arrivals=5000, input_tokens=5_000_000, variants=both[:1])
    assert decide(spec, alone, state, 10.0).desired == {"a": 2}


def test_a_maximum_that_was_lowered_holds_without_metrics_too() -> None:
    cluster = make_cluster(replicas=4, max_replicas=3)
    decision = cluster.step(1.0, arrivals=None)
    assert decision.desired == {"default": 3}
    assert {ReasonKind.MAX_REPLICAS, ReasonKind.NO_METRICS} <= kinds(decision)


# -- specifications ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pace(unschedulable_after_s=-1.0),
        lambda: VariantSpec(relative_capacity=0.0),
        lambda: ScalingSpec(variants=(VariantSpec(role=Role.PREFILL),)),
        lambda: ScalingSpec(
            variants=(VariantSpec(name="a"), VariantSpec(name="b", role=Role.DECODE))
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="must"):
        make()
