"""What an observation teaches counts in its own decision, and once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shoal.autoscaler.core.observation import Observation, VariantObservation
from shoal.autoscaler.core.scaler import decide
from shoal.autoscaler.core.spec import Pace, ScalingSpec, SloSpec, VariantSpec
from shoal.autoscaler.core.state import ScalerState

SPEC = ScalingSpec(
    slo=SloSpec(ttft_s=2.0, tpot_s=0.1),
    pace=Pace(max_up_factor=1000.0, max_up_step=1000),
    variants=(
        VariantSpec(name="a", max_replicas=999, relative_capacity=4.0, cost_per_hour=4.0),
        VariantSpec(name="b", max_replicas=999, cost_per_hour=1.0),
    ),
)


def observation(arrivals: int, *late: str, interval_s: float = 5.0) -> Observation:
    """Of two replicas of each; none of those of `late` answered in time."""
    return Observation(
        interval_s=interval_s,
        arrivals=arrivals,
        variants=tuple(
            VariantObservation(
                name=variant.name, desired=2, ready=2, num_first_tokens=arrivals,
                num_in_time=0 if variant.name in late else arrivals,
            )
            for variant in SPEC.variants
        ),
    )  # fmt: skip


@pytest.mark.parametrize("arrivals", range(20, 1020, 5))
def test_a_variant_that_did_worse_counts_for_less_at_once(arrivals: int) -> None:
    state = ScalerState.of(SPEC)
    asked = decide(SPEC, observation(arrivals, "b"), state, 5.0).desired
    again = observation(0, interval_s=0.01)  # nothing new
    ordered = tuple(
        replace(v, desired=asked[v.name], pending=max(asked[v.name] - v.ready, 0))
        for v in again.variants
    )
    assert decide(SPEC, replace(again, variants=ordered), state, 5.01).desired == asked


def test_how_unseen_replicas_fared_is_not_learnt_again() -> None:
    state, now = ScalerState.of(SPEC), 5.0
    decide(SPEC, observation(100, "b"), state, now)
    told = state.variants["b"].efficiency.value
    for _ in range(100):
        now += 5.0
        seen = observation(100)
        decide(SPEC, replace(seen, variants=seen.variants[:1]), state, now)
    assert state.variants["b"].efficiency.value == told < 1
