"""`decide`: the number of replicas of each variant, from what is seen and what was learnt.

1. Learn: the rate of arrivals and its trend, mean lengths, what a token costs, how much headroom
   keeps the objective.
2. Need: the load expected when a replica ordered now would be ready, plus headroom, plus what works
   off the backlog. Absolute numbers, so what is pending is never asked for twice.
3. Move: up at once, down when the need has been lower for a while; bounds, pace and budget last.

Missing metrics hold what there is: *no data* is not *zero*.
"""

from __future__ import annotations

from .arrivals import Rate
from .decision import Decision, Reason, ReasonKind
from .limits import Limits
from .need import load_of
from .observation import Observation, VariantObservation
from .spec import ScalingSpec
from .staffing import whole
from .state import ScalerState, VariantState

UP_MARGIN = 0.1
"""Parts of a replica that may be lacking before another is ordered."""
DOWN_MARGIN = 0.03
"""Relative load that must still fit after one is given up."""
RECENT_S = 40.0
"""What came is measured over so long, to be held against its forecast."""
DRAIN_S = 20.0
"""A backlog is to be gone so long after the replicas for it are ready."""


def decide(spec: ScalingSpec, observation: Observation, state: ScalerState, now: float) -> Decision:
    """One decision; `now` in seconds never goes backwards from call to call."""
    seen = {variant.name: variant for variant in observation.variants}
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
    for name, variant in state.variants.items():
        if name not in seen:
            continue
        here = seen[name]
        horizon = variant.start_up_s + observation.interval_s
        expected, margin = _expected(rate, variant, state, horizon, spec, now)
        load = load_of(rate.now, variant, state.size, spec.slo)
        coming = load_of(expected, variant, state.size, spec.slo)
        provided = load_of(rate.now + margin, variant, state.size, spec.slo)
        variant.learn_staffing(here, provided, observation.interval_s, now)
        need = variant.staffing.replicas(coming, caution=variant.caution.value)
        keep = variant.staffing.replicas(coming * (1 + DOWN_MARGIN), caution=variant.caution.value)
        extra = _for_backlog(observation, here, variant, load, state, spec)
        explain |= {
            f"{name}.load": load, f"{name}.need": need, f"{name}.beta": variant.staffing.beta,
            f"{name}.backlog": extra, f"{name}.margin": margin,
            f"{name}.caution": variant.caution.value,
        }  # fmt: skip
        wanted, why = _move(here, variant, need + extra, keep + extra, now)
        if extra > 0.5:
            reasons.append(Reason(ReasonKind.BACKLOG, name, f"{extra:.1f} replicas to work it off"))
        reasons.append(Reason(why, name, f"load {load:.2f}, need {need:.2f} replicas"))
        if is_idle:
            wanted = 0
            reasons.append(Reason(ReasonKind.IDLE, name, "nobody has asked for a while"))
        else:
            wanted = max(wanted, 1)
        desired[name] = limits.apply(name, wanted, reasons)
    return Decision(desired=desired, valid=True, reasons=tuple(reasons), explain=explain)


def _learn(observation: Observation, state: ScalerState, now: float) -> None:
    assert observation.arrivals is not None
    state.arrivals.add(now, observation.interval_s, observation.arrivals)
    state.size.observe(observation)
    if observation.arrivals or observation.backlog or state.last_arrival is None:
        state.last_arrival = now
    for seen in observation.variants:
        if (variant := state.variants.get(seen.name)) is not None:
            variant.observe(seen)


def _expected(
    rate: Rate, variant: VariantState, state: ScalerState, horizon_s: float, spec: ScalingSpec,
    now: float,
) -> tuple[float, float]:  # fmt: skip
    """The rate to be ready for, and the margin in it: what forecasts of late have missed.

    Never above both the forecast and the most that came within the last hour.
    """
    recent = state.arrivals.recent(RECENT_S)
    variant.errors.came(now, recent)
    forecast = rate.at(horizon_s)
    variant.errors.expect(now + horizon_s, forecast)
    likely = max(forecast, rate.now if rate.slope > 0 else 0.0)
    margin = variant.errors.margin(likely, spec.forecast_quantile)
    most = max(likely, state.highest.add(now, recent))
    expected = min(likely + margin, most)
    return expected, expected - likely


def _for_backlog(
    observation: Observation, seen: VariantObservation, variant: VariantState, load: float,
    state: ScalerState, spec: ScalingSpec,
) -> float:  # fmt: skip
    """Replicas beyond the load that work off what waits, unless those there are do it in time."""
    waiting = observation.backlog + (seen.num_waiting or 0.0)
    work = load_of(waiting, variant, state.size, spec.slo)  # in seconds of a replica
    left = work - (seen.ready - load) * variant.start_up_s  # when replicas ordered now are ready
    spare = max(seen.ready + seen.pending - load, 0.0)
    return max(left / DRAIN_S - spare, 0.0) if left > 0 else 0.0


def _move(
    seen: VariantObservation, variant: VariantState, need: float, keep: float, now: float
) -> tuple[int, ReasonKind]:
    """The need as a whole number that neither follows noise up nor gives up what is needed soon."""
    present = seen.desired
    up = max(whole(need - UP_MARGIN), 0)
    lasting = int(variant.needed.add(now, max(whole(keep), 0)))
    if up > present:
        return up, ReasonKind.DEMAND
    if lasting < present and variant.needed.seconds(now) >= variant.needed.span_s:
        return lasting, ReasonKind.DEMAND
    return present, ReasonKind.SCALE_DOWN_DELAY if up < present else ReasonKind.DEMAND


def _is_idle(spec: ScalingSpec, observation: Observation, state: ScalerState, now: float) -> bool:
    """Whether nobody waits, and nobody has asked of late."""
    assert state.last_arrival is not None
    quiet = now - state.last_arrival >= spec.pace.scale_to_zero_after_s
    return quiet and not observation.backlog


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
