from __future__ import annotations

import itertools

import pytest

from shoal.autoscaler.core.spec import Pace, ScalingSpec, SloSpec, VariantSpec
from shoal.autoscaler.core.state import ScalerState
from shoal.autoscaler.policy import ScalingPolicy
from shoal.autoscaler.record.history import MAX_RECENT, History, HistoryPoint, point_of
from shoal.autoscaler.record.memory import MAX_DECISIONS, Memory, ModelMemory
from tests.autoscaler.records import WALL, make_observation, make_record

PRICED = ScalingSpec(variants=(VariantSpec(cost_per_hour=36.0),))


def make_memory(spec: ScalingSpec = PRICED) -> ModelMemory:
    return ModelMemory(ScalingPolicy(model="m", spec=spec))


def test_a_decision_is_a_point() -> None:
    assert point_of(make_record(), PRICED) == HistoryPoint(
        time=WALL + 100, model="m", desired=4, ready=2, pending=1, needed=2.5, arrivals_per_s=2.0,
        queued=4, held=0, attainment=0.8, output_tokens_per_s=100.0, cost_per_hour=108.0,
    )  # fmt: skip


def test_what_was_not_known_is_not_zero() -> None:
    seen = make_observation(arrivals=None, output_tokens=None, queued=None, held=None, variants=())
    point = point_of(make_record(observation=seen), PRICED)
    unknown = (point.arrivals_per_s, point.output_tokens_per_s, point.attainment, point.queued)
    assert unknown == (None,) * 4


def test_history_is_bounded_and_thins_what_is_old() -> None:
    history = History(max_older=10)
    for i in range(MAX_RECENT + 24 * 60):
        history.add(point_of(make_record(now=5.0 * i), PRICED))
    points = list(history.since(0.0))
    assert len(points) == MAX_RECENT + 10
    older = [p.time for p in points[:10]]
    assert {b - a for a, b in itertools.pairwise(older)} == {60.0}
    recent = [p.time for p in points[10:]]
    assert {b - a for a, b in itertools.pairwise(recent)} == {5.0}


def test_history_since() -> None:
    history = History()
    for now in (0.0, 5.0, 10.0):
        history.add(point_of(make_record(now=now), PRICED))
    assert [p.time - WALL for p in history.since(WALL + 5.0)] == [10.0]


def test_decisions_are_bounded_and_come_newest_first() -> None:
    memory = make_memory()
    for i in range(MAX_DECISIONS + 5):
        memory.record(make_record(now=float(i)))
    found = [record.now for record in memory.decisions(10_000)]
    assert (len(found), found[0]) == (MAX_DECISIONS, MAX_DECISIONS + 4.0)


def test_rates_are_of_the_last_minutes() -> None:
    memory = make_memory()
    memory.record(make_record(now=0.0, observation=make_observation(output_tokens=10**9)))
    for i in range(60):
        memory.record(make_record(now=300.0 + 5 * i))
    assert memory.attainment() == pytest.approx(0.8)
    assert memory.tokens_per_s() == pytest.approx(100.0)
    assert memory.tokens_per_cost() == pytest.approx(100.0 / (3 * 36.0 / 3600))


def test_nothing_is_known_before_the_first_decision_nor_of_free_replicas() -> None:
    memory = make_memory()
    assert (memory.attainment(), memory.tokens_per_s(), memory.tokens_per_cost()) == (None,) * 3
    free = make_memory(ScalingSpec(variants=(VariantSpec(cost_per_hour=0.0),)))
    free.record(make_record())
    assert free.tokens_per_cost() is None


def test_several_models() -> None:
    memory = Memory()
    one = memory.add(ScalingPolicy(model="m", spec=PRICED), name="llm/one")
    two = memory.add(ScalingPolicy(model="x", spec=PRICED), name="llm/two")
    one.record(make_record(now=1.0))
    two.record(make_record(now=2.0, model="x"))
    one.record(make_record(now=3.0))
    assert [r.now for r in memory.decisions(2)] == [3.0, 2.0]
    assert memory.of_model("x") is two
    assert memory.of_model("llm/one") is one
    memory.remove("llm/two")
    assert memory.of_model("x") is None


def test_another_policy_of_the_same_name_keeps_the_past() -> None:
    memory = Memory()
    memory.add(ScalingPolicy(model="m"), name="a").record(make_record())
    again = memory.add(ScalingPolicy(model="m", interval_s=1.0), name="a")
    assert again.last is not None
    assert again.policy.interval_s == 1.0
    assert memory.add(ScalingPolicy(model="other"), name="a").last is None


@pytest.mark.parametrize(
    ("spec", "is_kept"),
    [
        (ScalingSpec(variants=(VariantSpec(max_replicas=99),), gpu_budget=8), True),
        (ScalingSpec(pace=Pace(max_up_step=9)), True),
        (ScalingSpec(slo=SloSpec(ttft_s=9.0)), False),
        (ScalingSpec(periods_s=(600.0,)), False),
        (ScalingSpec(pace=Pace(scale_down_delay_s=9.0)), False),
        (ScalingSpec(variants=(VariantSpec(name="other"),)), False),
    ],
)
def test_what_was_learnt_outlives_an_edit_that_does_not_concern_it(
    spec: ScalingSpec, is_kept: bool
) -> None:
    memory = Memory()
    first = memory.add(ScalingPolicy(model="m"))
    assert first.learnt() is None
    state = ScalerState.of(first.policy.spec)
    first.before(state, 1.0)
    assert (memory.add(ScalingPolicy(model="m", spec=spec)).learnt() is state) is is_kept
