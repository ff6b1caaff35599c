"""What one observation teaches, before anything is decided: all of it counts in this decision."""

from __future__ import annotations

from collections.abc import Mapping

from .observation import Observation, VariantObservation
from .spec import Role, ScalingSpec, SloSpec
from .state import ScalerState

Seen = Mapping[str, VariantObservation]
"""By variant, of those whose replicas were seen."""


def learn(
    spec: ScalingSpec, observation: Observation, seen: Seen, state: ScalerState, now: float
) -> None:
    """Of an observation with arrivals, and at least one variant."""
    assert observation.arrivals is not None
    start_up_s = max(state.variants[name].start_up_s for name in seen)
    state.demand.add(
        now, observation.interval_s, observation.arrivals,
        horizon_s=start_up_s + observation.interval_s,
    )  # fmt: skip
    state.size.observe(observation, _finished(spec, seen, state))
    if observation.is_asked or state.last_arrival is None:
        state.last_arrival = now
    for name, here in seen.items():
        state.variants[name].observe(here)
        state.variants[name].place.observe(here, now, spec.pace.unschedulable_after_s)
    for role in state.pools:
        names = [v.name for v in spec.variants if v.role is role and v.name in seen]
        if names and state.pools[role].settle(now, [seen[name] for name in names]):
            _fared(spec, observation.interval_s, {n: seen[n] for n in names}, role, state)


def _finished(spec: ScalingSpec, seen: Seen, state: ScalerState) -> int | None:
    """Requests that ended; None unless all who answer were asked. Prefill ends no request."""
    total = 0
    for variant in spec.variants:
        if variant.role is Role.PREFILL:
            continue
        here = seen.get(variant.name) or state.variants[variant.name].last
        if here is not None and here.ready and (here.num_finished is None):
            return None
        total += (here.num_finished or 0) if here else 0
    return total


def _fared(
    spec: ScalingSpec, interval_s: float, seen: Seen, role: Role, state: ScalerState
) -> None:
    """How the requests of a pool fared: all of them are told to its headroom, each variant's to
    the variant."""
    judged = {name: _judged(here, role, spec.slo) for name, here in seen.items()}
    judged_all = [each for each in judged.values() if each is not None]
    if judged_all:
        total, in_time = (sum(numbers) for numbers in zip(*judged_all, strict=True))
        state.pools[role].headroom.observe(
            interval_s=interval_s, num_requests=total, num_in_time=in_time
        )
    if sum(variant.role is role for variant in spec.variants) == 1:
        return  # a variant alone is compared with none
    for name, each in judged.items():
        if each is not None:
            state.variants[name].efficiency.observe(
                spec.slo.attainment, interval_s=interval_s,
                num_requests=each[0], num_in_time=each[1],
            )  # fmt: skip


def _judged(seen: VariantObservation, role: Role, slo: SloSpec) -> tuple[int, int] | None:
    """Requests held against the objective, and those that met it; None where it was not measured.

    Where a replica does both: first tokens that came in time, less the share of requests whose
    further tokens do not. The two are not of the same requests, for those that end now had their
    first token a while ago.
    """
    is_decode = role is Role.DECODE
    total = seen.num_finished if is_decode else seen.num_first_tokens
    in_time = seen.num_finished if is_decode else seen.num_in_time
    if total is None or in_time is None:
        return None
    if role is Role.PREFILL:
        return total, in_time
    share = 1.0
    if seen.num_tpot_in_time is not None and seen.num_finished:
        share = seen.num_tpot_in_time / seen.num_finished
    elif seen.tpot_s is not None and seen.tpot_s > slo.tpot_s:
        share = 0.0  # the mean misses it: most requests do
    return total, round(in_time * share)
