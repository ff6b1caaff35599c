"""`decide`: the number of replicas of each variant, from what is seen and what was learnt.

1. Learn: the rate of arrivals and its trend, mean lengths, what a token costs, how much headroom
   keeps the objective.
2. Need: the load expected when a replica ordered now would be ready, plus headroom, plus what works
   off the backlog. Absolute numbers, so what is pending is never asked for twice.
3. Move: up at once, down when the need has been lower for a while; bounds, pace and budget last.

Missing metrics hold what there is: *no data* is not *zero*.
"""

from __future__ import annotations

from .decision import Decision, Reason, ReasonKind
from .expectation import Expectation, expect
from .limits import Limits
from .observation import Observation, VariantObservation
from .pools import Pool, choose, pools_of
from .spec import ScalingSpec
from .staffing import whole
from .state import PoolState, ScalerState


def decide(spec: ScalingSpec, observation: Observation, state: ScalerState, now: float) -> Decision:
    """One decision; `now` in seconds never goes backwards from call to call."""
    seen = {v.name: v for v in observation.variants if v.name in state.variants}
    limits = Limits(spec, seen)
    if observation.arrivals is None or not seen:
        return _hold(spec, observation, seen, limits)
    _learn(observation, state, now)
    rate = state.arrivals.estimate()
    assert rate is not None, "arrivals were just added"
    reasons: list[Reason] = []
    desired: dict[str, int] = {}
    explain: dict[str, float] = {"arrivals_per_s": rate.now, "slope": rate.slope}
    is_idle = _is_idle(spec, observation, state, now)
    for pool in pools_of(spec, seen, state):
        learnt = state.pools[pool.role]
        expected = expect(pool.view, rate, observation, learnt, state, spec, now)
        explain |= _explained(pool, expected, learnt)
        wanted = choose(pool, expected, is_idle=is_idle)
        for name, number in wanted.items():
            reasons += _reasons(name, number, seen[name].desired, expected, is_idle=is_idle)
            desired[name] = limits.apply(name, number, reasons)
    return Decision(desired=desired, valid=True, reasons=tuple(reasons), explain=explain)


def _explained(pool: Pool, expected: Expectation, learnt: PoolState) -> dict[str, float]:
    """By the name of the variant, or of the role where a model has several pools."""
    name = pool.members[0].spec.name if len(pool.members) == 1 else pool.role
    return {
        f"{name}.load": expected.load, f"{name}.need": expected.need,
        f"{name}.beta": learnt.staffing.beta, f"{name}.backlog": expected.backlog,
        f"{name}.margin": expected.margin, f"{name}.caution": learnt.caution.value,
    }  # fmt: skip


def _reasons(
    name: str, wanted: int, present: int, expected: Expectation, *, is_idle: bool
) -> list[Reason]:
    reasons = []
    if expected.backlog > 0.5:
        detail = f"{expected.backlog:.1f} replicas to work it off"
        reasons.append(Reason(ReasonKind.BACKLOG, name, detail))
    numbers = f"load {expected.load:.2f}, need {expected.need:.2f} replicas"
    waits = wanted == present and present > max(whole(expected.up_to), 0)
    kind = ReasonKind.SCALE_DOWN_DELAY if waits else ReasonKind.DEMAND
    reasons.append(Reason(kind, name, numbers))
    if is_idle:
        reasons.append(Reason(ReasonKind.IDLE, name, "nobody has asked for a while"))
    return reasons


def _learn(observation: Observation, state: ScalerState, now: float) -> None:
    assert observation.arrivals is not None
    state.arrivals.add(now, observation.interval_s, observation.arrivals)
    state.size.observe(observation)
    if observation.arrivals or observation.backlog or state.last_arrival is None:
        state.last_arrival = now
    for seen in observation.variants:
        if (variant := state.variants.get(seen.name)) is not None:
            variant.observe(seen)


def _is_idle(spec: ScalingSpec, observation: Observation, state: ScalerState, now: float) -> bool:
    """Whether nobody waits, and nobody has asked of late; at zero, only a request ends it."""
    assert state.last_arrival is not None
    quiet = now - state.last_arrival >= spec.pace.scale_to_zero_after_s
    is_at_zero = not observation.arrivals and not any(v.desired for v in observation.variants)
    return (quiet or is_at_zero) and not observation.backlog


def _hold(
    spec: ScalingSpec, observation: Observation, seen: dict[str, VariantObservation],
    limits: Limits,
) -> Decision:  # fmt: skip
    """What there is; but requests that are held are reason enough for a first replica."""
    reasons: list[Reason] = []
    desired = {}
    first = spec.variants[0].name
    for name, here in seen.items():
        wanted = here.desired
        if observation.held and not any(v.desired for v in seen.values()) and name == first:
            wanted = 1
            reasons.append(Reason(ReasonKind.HELD, name, f"{observation.held} requests held"))
        reasons.append(Reason(ReasonKind.NO_METRICS, name, "holding what there is"))
        desired[name] = limits.apply(name, wanted, reasons)
    return Decision(desired=desired, valid=False, reasons=tuple(reasons), explain={})
