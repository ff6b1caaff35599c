"""What a pool of replicas must be ready for: the load to come, with its headroom.

Numbers are replicas of the pool's largest variant; of a single variant, its replicas.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .demand import Outlook
from .observation import Observation
from .state import PoolState

UP_MARGIN = 0.1
"""Parts of a replica that may be lacking before another is ordered."""
DOWN_MARGIN = 0.03
"""Relative load that must still fit after one is given up."""
DRAIN_S = 20.0
"""A backlog is to be gone so long after the replicas for it are ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """The replicas of a pool, taken together."""

    ready: float
    pending: float
    start_up_s: float
    """How long a replica ordered now takes."""
    num_waiting: float
    """Requests that wait inside the replicas."""
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
    up_to: float
    """With less than this, replicas are ordered."""
    down_to: float | None
    """What was needed within the scale-down delay: as much is kept. None: not known for so long."""


def expect(
    view: PoolView, outlook: Outlook, observation: Observation, pool: PoolState, now: float
) -> Expectation:
    """Looks ahead: `outlook` is for when a replica ordered now is ready."""
    load = view.load_of(outlook.now)
    backlog = _for_backlog(view, observation, load)
    need = _need(view, pool, outlook, outlook.expected)
    keep = _need(view, pool, outlook, max(outlook.now, outlook.expected) * (1 + DOWN_MARGIN))
    lasting = pool.needed.add(now, keep + backlog)
    return Expectation(
        load=load,
        need=need,
        backlog=backlog,
        up_to=need + backlog - UP_MARGIN,
        down_to=lasting if pool.needed.seconds(now) >= pool.needed.span_s else None,
    )


def _need(view: PoolView, pool: PoolState, outlook: Outlook, rate: float) -> float:
    """Replicas for a rate as uncertain as forecasts are; of a surge more is known."""
    usual = pool.headroom.replicas(view.load_of(rate), spread=outlook.spread)
    return max(usual, pool.headroom.replicas(view.load_of(outlook.surge)))


def _for_backlog(view: PoolView, observation: Observation, load: float) -> float:
    """Replicas beyond the load that work off what waits, unless those there are do it in time."""
    waiting = observation.backlog + view.num_waiting
    work = view.load_of(waiting)  # in seconds of a replica
    left = work - (view.ready - load) * view.start_up_s  # when replicas ordered now are ready
    spare = max(view.ready + view.pending - load, 0.0)
    return max(left / DRAIN_S - spare, 0.0) if left > 0 else 0.0
