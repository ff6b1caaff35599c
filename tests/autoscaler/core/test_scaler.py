"""`decide` as sequences of observations with the numbers they lead to."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from shoal.autoscaler.core.decision import Decision, ReasonKind
from shoal.autoscaler.core.observation import Observation, VariantObservation
from shoal.autoscaler.core.scaler import decide
from shoal.autoscaler.core.spec import Pace, ScalingSpec, SloSpec, VariantSpec
from shoal.autoscaler.core.state import ScalerState
from tests.autoscaler.core.cluster import IN, INTERVAL_S, OUT, kinds

COST = {"base_s": 0.02, "in_s": 1.5e-4, "out_s": 4e-4}
"""A request is 0.23 s of a replica's time, so 3.5 requests/s at a load of 0.8."""


class Target:
    """A deployment that does at once, or never, what it is told; and its steady requests."""

    def __init__(self, spec: ScalingSpec, *, replicas: int, starts: bool = True) -> None:
        self.spec, self.state = spec, ScalerState.of(spec)
        self.desired = self.ready = replicas
        self.starts = starts
        self.now = 0.0

    def observe(self, rate: float, **changes: Any) -> Observation:
        served = rate if self.ready else 0.0
        load = COST["in_s"] * IN * served + COST["out_s"] * OUT * served
        each = min(load / max(self.ready, 1), 0.95)
        tpot = COST["base_s"] / (1 - each)
        variant = VariantObservation(
            name="default", desired=self.desired, ready=self.ready,
            pending=max(self.desired - self.ready, 0),
            num_running=served * OUT * tpot, num_waiting=0.0,
            input_tokens_per_s=served * IN, output_tokens_per_s=served * OUT,
            num_finished=round(served * INTERVAL_S), num_first_tokens=round(served * INTERVAL_S),
            num_in_time=round(served * INTERVAL_S),
        )  # fmt: skip
        arrivals = round(rate * INTERVAL_S)
        observation = Observation(
            interval_s=INTERVAL_S, arrivals=arrivals, input_tokens=arrivals * IN,
            output_tokens=round(served * INTERVAL_S) * OUT, queued=0, held=0, variants=(variant,),
        )  # fmt: skip
        return replace(observation, **changes)

    def step(self, rate: float, **changes: Any) -> Decision:
        self.now += INTERVAL_S
        decision = decide(self.spec, self.observe(rate, **changes), self.state, self.now)
        self.desired = decision.desired["default"]
        if self.starts or self.desired < self.ready:
            self.ready = self.desired
        return decision

    def run(self, rate: float, seconds: float) -> list[int]:
        return [self.step(rate).desired["default"] for _ in range(int(seconds / INTERVAL_S))]


def make_spec(*, gpu_budget: int | None = None, **variant: Any) -> ScalingSpec:
    settings = {"min_replicas": 0, "max_replicas": 50, **variant}
    return ScalingSpec(
        slo=SloSpec(ttft_s=2.0, tpot_s=0.1), variants=(VariantSpec(**settings),),
        gpu_budget=gpu_budget,
    )  # fmt: skip


def test_a_steady_load_settles_near_what_it_needs_and_stays() -> None:
    target = Target(make_spec(), replicas=3)
    target.run(20.0, 1200)  # needs 20 * 0.23 / 0.8 = 5.75
    last = target.run(20.0, 600)
    assert set(last) <= {5, 6, 7}
    assert sum(a != b for a, b in pairwise(last)) <= 2


def test_load_goes_up_at_once_and_down_after_a_while() -> None:
    target = Target(make_spec(), replicas=3)
    calm = target.run(6.0, 900)[-1]
    up = target.run(30.0, 60)
    assert up[-1] >= 9
    down = target.run(6.0, 600)
    delay = next(i for i, n in enumerate(down) if n < 6) * INTERVAL_S + INTERVAL_S
    assert delay >= target.spec.pace.scale_down_delay_s
    assert down[-1] <= calm + 1


@pytest.mark.parametrize("present", [0, 1, 7])
def test_without_metrics_what_there_is_stays(present: int) -> None:
    target = Target(make_spec(), replicas=present)
    for _ in range(100):
        decision = target.step(0.0, arrivals=None)
        assert decision.desired == {"default": present}
        assert not decision.valid
        assert ReasonKind.NO_METRICS in kinds(decision)


def test_a_model_nobody_sees_is_left_alone() -> None:
    target = Target(make_spec(), replicas=2)
    decision = decide(target.spec, target.observe(1.0, variants=()), target.state, 5.0)
    assert decision.desired == {}
    assert not decision.valid


def test_held_requests_start_a_first_replica_even_without_metrics() -> None:
    target = Target(make_spec(), replicas=0)
    decision = target.step(0.0, arrivals=None, held=3)
    assert decision.desired == {"default": 1}
    assert ReasonKind.HELD in kinds(decision)


def test_requests_that_take_long_keep_their_replica() -> None:
    target = Target(make_spec(), replicas=1)
    target.run(0.5, 60)
    [seen] = target.observe(0.0).variants
    running = replace(seen, num_running=1.0)
    for _ in range(200):  # 1000 s without an arrival
        assert target.step(0.0, variants=(running,)).desired["default"] == 1
    assert 0 in target.run(0.0, 600)


def test_to_zero_when_idle_and_from_zero_when_somebody_asks() -> None:
    target = Target(make_spec(), replicas=2)
    target.run(2.0, 300)
    idle = target.run(0.0, 900)
    until_zero = (idle.index(0) + 1) * INTERVAL_S
    assert until_zero >= target.spec.pace.scale_to_zero_after_s
    assert set(idle[idle.index(0) :]) == {0}
    assert target.step(0.0, held=1).desired["default"] >= 1


def test_a_restart_at_zero_starts_nothing_for_nobody() -> None:
    target = Target(make_spec(), replicas=0)
    assert target.run(0.0, 60) == [0] * 12
    assert target.step(0.0, held=1).desired["default"] >= 1


def test_with_a_minimum_it_never_goes_to_zero() -> None:
    target = Target(make_spec(min_replicas=1), replicas=2)
    assert target.run(0.0, 1200)[-1] == 1


def test_what_is_pending_is_not_asked_for_twice() -> None:
    """Replicas that never become ready: the number asked for must not run away."""
    target = Target(make_spec(), replicas=3, starts=False)
    asked = target.run(20.0, 900)
    assert max(asked[60:]) <= 14
    assert max(asked[-60:]) - min(asked[-60:]) <= 2


def test_a_backlog_adds_replicas_until_it_is_gone() -> None:
    target = Target(make_spec(), replicas=6)
    calm = target.run(20.0, 600)[-1]
    decision = target.step(20.0, queued=4000)
    assert decision.desired["default"] > calm
    assert ReasonKind.BACKLOG in kinds(decision)


@pytest.mark.parametrize(
    ("spec", "most", "kind"),
    [
        (make_spec(max_replicas=4), 4, ReasonKind.MAX_REPLICAS),
        (make_spec(gpu_budget=8, gpus_per_pod=2), 4, ReasonKind.GPU_BUDGET),
        # A replica is a group of 4 pods with 8 GPUs each: 32 GPUs.
        (make_spec(gpu_budget=100, gpus_per_pod=8, pods_per_replica=4), 3, ReasonKind.GPU_BUDGET),
    ],
)
def test_bounds_hold_whatever_the_load(spec: ScalingSpec, most: int, kind: ReasonKind) -> None:
    target = Target(spec, replicas=1)
    decisions = [target.step(40.0) for _ in range(100)]
    assert max(d.desired["default"] for d in decisions) == most
    assert kind in kinds(decisions[-1])


def test_a_budget_that_others_use_up_fails_closed_and_takes_nothing_away() -> None:
    spec = ScalingSpec(
        variants=(VariantSpec(name="a", gpus_per_pod=4), VariantSpec(name="b", gpus_per_pod=4)),
        gpu_budget=8,
    )
    state = ScalerState.of(spec)
    seen = tuple(
        VariantObservation(
            name=name, desired=n, ready=n, num_running=50.0, num_waiting=400.0,
            input_tokens_per_s=3000.0, output_tokens_per_s=600.0,
        )
        for name, n in (("a", 1), ("b", 2))
    )  # fmt: skip
    observation = Observation(
        interval_s=5.0, arrivals=500, input_tokens=500_000, output_tokens=0, variants=seen
    )
    assert decide(spec, observation, state, 5.0).desired == {"a": 1, "b": 2}


def test_one_step_is_bounded_by_the_pace() -> None:
    spec = replace(make_spec(), pace=Pace(max_up_factor=1.5, max_up_step=2))
    target = Target(spec, replicas=2)
    ups = target.run(60.0, 15)
    assert ups[0] <= 4
    assert ups[1] <= 6
    assert ReasonKind.PACE in kinds(target.step(200.0))


def test_the_numbers_behind_a_decision_are_told() -> None:
    decision = Target(make_spec(), replicas=3).step(6.0)
    assert decision.valid
    assert {"arrivals_per_s", "default.load", "default.need", "default.beta"} <= set(
        decision.explain
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: SloSpec(ttft_s=0.0),
        lambda: SloSpec(attainment=1.0),
        lambda: Pace(max_up_factor=1.0),
        lambda: Pace(max_down_share=0.0),
        lambda: VariantSpec(min_replicas=3, max_replicas=2),
        lambda: VariantSpec(gpus_per_pod=-1),
        lambda: ScalingSpec(variants=()),
        lambda: ScalingSpec(variants=(VariantSpec(), VariantSpec())),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"must|need"):
        make()


def test_a_full_cache_limits_what_a_replica_can_take() -> None:
    """Requests that fill the KV cache long before tokens get slow: more replicas for the load."""

    def needed(kv_usage: float) -> float:
        target = Target(make_spec(), replicas=4)
        for _ in range(60):
            seen = target.observe(10.0)
            (variant,) = seen.variants
            full = replace(variant, kv_usage=kv_usage)
            target.step(10.0, variants=(full,))
        return target.step(10.0).explain["default.load"]

    assert needed(0.95) > 1.5 * needed(0.1)


def test_start_ups_that_were_seen_are_planned_with() -> None:
    target = Target(make_spec(), replicas=2)
    state = target.state.variants["default"]
    for seconds in (200.0, 100.0):
        (variant,) = target.observe(2.0).variants
        target.step(2.0, variants=(replace(variant, start_up_s=(seconds,)),))
    assert 100.0 < state.start_up_s < 200.0
