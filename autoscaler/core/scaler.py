"""`decide`: the number of replicas of each variant, from what is seen and what was learnt.

1. Learn: the rate of arrivals and its trend, mean lengths, what a token costs, how much headroom
   keeps the objective (`learning.py`).
2. Expect: the load when a replica ordered now would be ready, plus headroom, plus what works off
   the backlog (`expectation.py`). Absolute numbers, so nothing pending is asked for twice.
3. Choose: the cheapest numbers of each pool of variants, up at once, down when the need has been
   lower for a while (`pools.py`, `choice.py`, `together.py`); bounds, pace and budget last
   (`limits.py`).

Missing metrics hold what there is: *no data* is not *zero*.
"""

from __future__ import annotations

from .choice import ALL, Choice, choose
from .decision import Decision, Reason, ReasonKind
from .expectation import expect
from .explain import demand_numbers, model_numbers, pool_numbers, variant_numbers
from .learning import learn
from .limits import Limits
from .observation import Observation, VariantObservation
from .pools import Pool, pools_of
from .reasons import reasons_of
from .spec import ScalingSpec
from .state import ScalerState
from .together import parts_of


def decide(spec: ScalingSpec, observation: Observation, state: ScalerState, now: float) -> Decision:
    """One decision; `now` in seconds never goes backwards from call to call."""
    seen = {v.name: v for v in observation.variants if v.name in state.variants}
    reasons = _edits(spec, seen, state, now)
    limits = Limits(spec, {n: v.last for n, v in state.variants.items() if v.last} | seen)
    for name, here in seen.items():
        state.variants[name].remember(here)
    if observation.arrivals is None or not seen:
        decision = _hold(spec, observation, seen, limits, reasons)
    else:
        decision = _decide(spec, observation, seen, state, now, limits, reasons)
    for name, number in decision.desired.items():
        state.variants[name].edits.decided = number
    return decision


def _decide(
    spec: ScalingSpec, observation: Observation, seen: dict[str, VariantObservation],
    state: ScalerState, now: float, limits: Limits, reasons: list[Reason],
) -> Decision:  # fmt: skip
    learn(spec, observation, seen, state, now)
    pools = pools_of(spec, seen, state, now)
    views = [pool.view for pool in pools]
    outlooks = [state.demand.outlook(view.start_up_s + observation.interval_s) for view in views]
    expected = [
        expect(view, outlook, observation, state.pools[pool.role], now)
        for pool, view, outlook in zip(pools, views, outlooks, strict=True)
    ]
    gpus = limits.free()
    parts = parts_of(pools, expected, gpus=gpus)
    explain = demand_numbers(outlooks[0], state.demand) | model_numbers(pools, observation)
    is_idle = _is_idle(spec, observation, state, now)
    wanted: dict[str, int] = {}
    for pool, ahead, part in zip(pools, expected, parts, strict=True):
        learnt = state.pools[pool.role]
        choice = choose(pool, ahead, learnt, spec.pace, now, gpus=gpus, part=part)
        learnt.is_lacking = choice.is_short or part != ALL
        if is_idle:
            reasons.append(Reason(ReasonKind.IDLE, pool.name, "nobody has asked for a while"))
        else:
            reasons += reasons_of(pool, ahead, choice, spec.pace, part, gpus=gpus)
        explain |= pool_numbers(pool, ahead, learnt) | variant_numbers(pool, state.size)
        wanted |= _named(pool, choice, is_idle=is_idle)
        if gpus is not None:
            gpus = max(gpus - pool.gpus(choice.numbers), 0)
    desired = {name: here.desired for name, here in seen.items()}
    # What is given up first: others may have its GPUs, once they are free.
    for name in sorted(seen, key=lambda name: wanted[name] >= seen[name].desired):
        desired[name] = limits.apply(name, wanted[name], reasons)
    return Decision(desired=desired, valid=True, reasons=tuple(reasons), explain=explain)


def _named(pool: Pool, choice: Choice, *, is_idle: bool) -> dict[str, int]:
    """By variant, of those that were seen."""
    return {
        member.name: 0 if is_idle else number
        for member, number in zip(pool.members, choice.numbers, strict=True)
        if member.is_known
    }


def _edits(
    spec: ScalingSpec, seen: dict[str, VariantObservation], state: ScalerState, now: float
) -> list[Reason]:
    """Those numbers that somebody else has changed."""
    reasons = []
    for name, here in seen.items():
        edits = state.variants[name].edits
        if edits.observe(here.desired, now, spec.pace.scale_down_delay_s):
            detail = f"{here.desired} in place of {edits.decided}: somebody else changed it"
            reasons.append(Reason(ReasonKind.EDITED, name, detail))
    return reasons


def _is_idle(spec: ScalingSpec, observation: Observation, state: ScalerState, now: float) -> bool:
    """Whether nobody waits, and nobody has asked of late; at zero, only a request ends it."""
    assert state.last_arrival is not None
    quiet = now - state.last_arrival >= spec.pace.scale_to_zero_after_s
    is_at_zero = not observation.arrivals and not any(v.desired for v in observation.variants)
    return (quiet or is_at_zero) and not observation.backlog


def _hold(
    spec: ScalingSpec, observation: Observation, seen: dict[str, VariantObservation],
    limits: Limits, reasons: list[Reason],
) -> Decision:  # fmt: skip
    """What there is; but requests that are held are reason enough for a first replica of each role,
    of the variant that costs least."""
    desired = {}
    waits = observation.held and not any(here.desired for here in seen.values())
    first = {
        min(
            (v for v in spec.variants if v.role is role and v.name in seen),
            key=lambda variant: variant.cost_per_hour,
        ).name
        for role in {v.role for v in spec.variants if v.name in seen}
    }
    for name, here in seen.items():
        wanted = here.desired
        if waits and name in first:
            wanted = 1
            reasons.append(Reason(ReasonKind.HELD, name, f"{observation.held} requests held"))
        reasons.append(Reason(ReasonKind.NO_METRICS, name, "holding what there is"))
        desired[name] = limits.apply(name, wanted, reasons)
    return Decision(desired=desired, valid=False, reasons=tuple(reasons), explain={})
