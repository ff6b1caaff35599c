"""What a pool of replicas must be ready for: the load to come, with its headroom.

Numbers are replicas of the pool's largest variant; of a single variant, its replicas.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .arrivals import Rate
from .observation import Observation
from .spec import ScalingSpec
from .state import PoolState, ScalerState

UP_MARGIN = 0.1
"""Parts of a replica that may be lacking before another is ordered."""
DOWN_MARGIN = 0.03
"""Relative load that must still fit after one is given up."""
RECENT_S = 40.0
"""What came is measured over so long, to be held against its forecast."""
DRAIN_S = 20.0
"""A backlog is to be gone so long after the replicas for it are ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """The replicas of a pool, taken together."""

    ready: float
    pending: float
    num_ready: int
    """Counted, whatever their size."""
    start_up_s: float
    """How long a replica ordered now takes."""
    num_waiting: float
    """Requests that wait inside the replicas."""
    num_first_tokens: int | None
    num_in_time: int | None
    has_started: bool
    """Whether a replica became ready in the interval."""
    load_of: Callable[[float], float]
    """From requests per second to the replicas they keep busy; linear."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    load: float
    """Of the present rate."""
    need: float
    """With headroom, when a replica ordered now is ready."""
    backlog: float
    """On top: replicas that work off what waits."""
    margin: float
    """Requests per second in `need` for what forecasts of late have missed."""
    up_to: float
    """With less than this, replicas are ordered."""
    down_to: float | None
    """What was needed within the scale-down delay: as much is kept. None: not known for so long."""


def expect(
    view: PoolView, rate: Rate, observation: Observation, pool: PoolState, state: ScalerState,
    spec: ScalingSpec, now: float,
) -> Expectation:  # fmt: skip
    """Learns from the interval, then looks ahead."""
    horizon = view.start_up_s + observation.interval_s
    expected, margin = _expected(rate, pool, state, horizon, spec, now)
    load, coming = view.load_of(rate.now), view.load_of(expected)
    provided = view.load_of(rate.now + margin)
    pool.learn(
        now, interval_s=observation.interval_s, ready=view.ready, load=provided,
        is_short=view.ready < provided or view.num_waiting > view.num_ready,
        has_started=view.has_started, num_requests=view.num_first_tokens,
        num_in_time=view.num_in_time,
    )  # fmt: skip
    need = pool.staffing.replicas(coming, caution=pool.caution.value)
    keep = pool.staffing.replicas(coming * (1 + DOWN_MARGIN), caution=pool.caution.value)
    backlog = _for_backlog(view, observation, load)
    lasting = pool.needed.add(now, keep + backlog)
    return Expectation(
        load=load, need=need, backlog=backlog, margin=margin,
        up_to=need + backlog - UP_MARGIN,
        down_to=lasting if pool.needed.seconds(now) >= pool.needed.span_s else None,
    )  # fmt: skip


def _expected(
    rate: Rate, pool: PoolState, state: ScalerState, horizon_s: float, spec: ScalingSpec,
    now: float,
) -> tuple[float, float]:  # fmt: skip
    """The rate to be ready for, and the margin in it: what forecasts of late have missed.

    Never above both the forecast and the most that came within the last hour.
    """
    recent = state.arrivals.recent(RECENT_S)
    pool.errors.came(now, recent)
    forecast = rate.at(horizon_s)
    pool.errors.expect(now + horizon_s, forecast)
    likely = max(forecast, rate.now if rate.slope > 0 else 0.0)
    margin = pool.errors.margin(likely, spec.forecast_quantile)
    most = max(likely, state.highest.add(now, recent))
    expected = min(likely + margin, most)
    return expected, expected - likely


def _for_backlog(view: PoolView, observation: Observation, load: float) -> float:
    """Replicas beyond the load that work off what waits, unless those there are do it in time."""
    waiting = observation.backlog + view.num_waiting
    work = view.load_of(waiting)  # in seconds of a replica
    left = work - (view.ready - load) * view.start_up_s  # when replicas ordered now are ready
    spare = max(view.ready + view.pending - load, 0.0)
    return max(left / DRAIN_S - spare, 0.0) if left > 0 else 0.0
