"""What holds for every decision, whatever is seen."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.autoscaler.core.observation import Observation, VariantObservation
from shoal.autoscaler.core.scaler import decide
from shoal.autoscaler.core.spec import Pace, Role, ScalingSpec, SloSpec, VariantSpec
from shoal.autoscaler.core.state import ScalerState

COUNTS = st.integers(0, 6)
RATES = st.none() | st.floats(0.0, 5000.0)
FAST = Pace(max_up_factor=1000.0, max_up_step=1000, max_down_share=1.0)


@st.composite
def specs(draw: st.DrawFn, *, pace: Pace | None = None, roles: bool = True) -> ScalingSpec:
    apart = roles and draw(st.booleans())
    variants = []
    for index in range(draw(st.integers(2 if apart else 1, 3))):
        least = draw(st.integers(0, 2))
        variants.append(
            VariantSpec(
                name=f"v{index}",
                role=(Role.PREFILL, Role.DECODE)[index % 2] if apart else Role.BOTH,
                min_replicas=least,
                max_replicas=least + draw(st.integers(0, 8)),
                pods_per_replica=draw(st.integers(1, 3)),
                gpus_per_pod=draw(st.integers(0, 4)),
                cost_per_hour=draw(st.sampled_from([0.0, 1.0, 1.0, 2.5])),
                relative_capacity=draw(st.sampled_from([0.3, 1.0, 1.0, 2.0])),
            )
        )
    if pace is None:
        pace = draw(st.sampled_from([Pace(), FAST, Pace(scale_down_delay_s=0.0)]))
    return ScalingSpec(
        slo=SloSpec(ttft_s=2.0, tpot_s=0.1), pace=pace, variants=tuple(variants),
        gpu_budget=draw(st.none() | st.integers(0, 60)),
    )  # fmt: skip


@st.composite
def variants_seen(draw: st.DrawFn, name: str, most: int) -> VariantObservation:
    ready, pending = draw(st.integers(0, most)), draw(COUNTS)
    pending = min(pending, most - ready)
    first = draw(st.none() | st.integers(0, 200))
    return VariantObservation(
        name=name, desired=ready + pending, ready=ready, pending=pending,
        unschedulable=draw(st.integers(0, pending)), draining=draw(st.integers(0, 2)),
        num_running=draw(st.none() | st.floats(0.0, 500.0)),
        num_waiting=draw(st.none() | st.floats(0.0, 500.0)),
        kv_usage=draw(st.none() | st.floats(0.0, 1.0)),
        input_tokens_per_s=draw(RATES), output_tokens_per_s=draw(RATES),
        tpot_s=draw(st.none() | st.floats(0.001, 1.0)),
        num_first_tokens=first, num_in_time=None if first is None else draw(st.integers(0, first)),
        num_finished=draw(st.none() | st.integers(0, 200)),
        start_up_s=draw(st.sampled_from([(), (), (5.0,), (300.0, 20.0)])),
    )  # fmt: skip


def observation_of(draw: st.DrawFn, spec: ScalingSpec) -> Observation:
    seen = [draw(variants_seen(v.name, v.max_replicas)) for v in spec.variants]
    if draw(st.integers(0, 5)) == 0:
        seen.pop()
    return Observation(
        interval_s=5.0, arrivals=draw(st.none() | st.integers(0, 2000)),
        input_tokens=draw(st.none() | st.integers(0, 10**6)),
        output_tokens=draw(st.none() | st.integers(0, 10**6)),
        queued=draw(st.none() | st.integers(0, 500)), held=draw(st.none() | st.integers(0, 9)),
        variants=tuple(seen),
    )  # fmt: skip


def held_gpus(spec: ScalingSpec, seen: VariantObservation, desired: int) -> int:
    """Of a variant's replicas, those on their way out among them."""
    variant = next(v for v in spec.variants if v.name == seen.name)
    exist = seen.ready + seen.pending - seen.unschedulable + seen.draining
    return max(desired, exist) * variant.gpus_per_replica


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_bounds_and_budget_hold_and_ignorance_changes_nothing(data: st.DataObject) -> None:
    spec = data.draw(specs())
    state, now = ScalerState.of(spec), 0.0
    last: dict[str, VariantObservation] = {}
    for _ in range(data.draw(st.integers(1, 8))):
        now += data.draw(st.sampled_from([5.0, 5.0, 60.0, 700.0]))
        observation = observation_of(data.draw, spec)
        decision = decide(spec, observation, state, now)
        seen = {v.name: v for v in observation.variants}
        last |= seen
        assert decision.desired.keys() == seen.keys()
        bounds = {v.name: v for v in spec.variants}
        before = sum(held_gpus(spec, v, v.desired) for v in last.values())
        after = 0
        for name, here in last.items():
            number = decision.desired.get(name, here.desired)
            assert 0 <= number <= bounds[name].max_replicas
            after += held_gpus(spec, here, number)
        for name, number in decision.desired.items():
            if spec.gpu_budget is None:
                assert number >= bounds[name].min_replicas
        if spec.gpu_budget is not None:
            assert after <= max(before, spec.gpu_budget)
        if observation.arrivals is None:
            assert not decision.valid
            for name, number in decision.desired.items():
                assert number >= seen[name].desired
        assert all(reason.detail for reason in decision.reasons)
        assert all(value == value for value in decision.explain.values())


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_what_was_asked_for_is_not_asked_for_again(data: st.DataObject) -> None:
    """The same again, with what was ordered pending: not one more, ever."""
    spec = data.draw(specs(pace=FAST, roles=False))
    observation = observation_of(data.draw, spec)
    observation = replace(
        observation,
        variants=tuple(
            replace(
                v,
                desired=v.ready,
                pending=0,
                unschedulable=0,
                draining=0,
                start_up_s=(),
                num_running=None,
            )
            for v in observation.variants
        ),
    )
    state, now, asked = ScalerState.of(spec), 5.0, None
    for _ in range(6):
        decision = decide(spec, observation, state, now)
        if asked is not None:
            assert all(decision.desired[name] <= asked[name] for name in asked)
        asked = dict(decision.desired)
        now += 0.01  # nothing new is learnt of the load
        observation = replace(
            observation,
            interval_s=0.01, arrivals=None if observation.arrivals is None else 0,
            input_tokens=0, output_tokens=0,
            variants=tuple(
                replace(
                    v, desired=asked[v.name], pending=max(asked[v.name] - v.ready, 0),
                    num_first_tokens=0, num_in_time=0, num_finished=0,
                )
                for v in observation.variants
            ),
        )  # fmt: skip


@given(
    st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 9),
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0.3, 1.0])), min_size=1, max_size=3),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_more_requests_never_mean_less(
    few: int, more: int, waiting: int, variants: list[tuple[int, float]]
) -> None:
    """Of two models alike, the one with more requests has no less capacity asked for."""
    spec = ScalingSpec(
        pace=FAST,
        variants=tuple(
            VariantSpec(name=f"v{i}", max_replicas=40, relative_capacity=size)
            for i, (_, size) in enumerate(variants)
        ),
    )
    seen = tuple(
        VariantObservation(name=f"v{i}", desired=ready, ready=ready)
        for i, (ready, _) in enumerate(variants)
    )

    def capacity(arrivals: int) -> float:
        observation = Observation(interval_s=5.0, arrivals=arrivals, queued=waiting, variants=seen)
        decision = decide(spec, observation, ScalerState.of(spec), 5.0)
        return sum(decision.desired[v.name] * v.relative_capacity for v in spec.variants)

    low, high = sorted((few, more))
    # Whole replicas: the smaller may have to have a larger one, and so a little more.
    assert capacity(high) >= capacity(low) - 1.0
