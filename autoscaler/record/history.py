"""One model over time: a point a decision for the last hour, one a minute for the day before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec

from ..core.observation import Observation
from ..core.spec import ScalingSpec
from .decision_record import DecisionRecord

MAX_RECENT = 720
"""An hour of decisions at an interval of 5 s."""
MAX_OLDER = 1440
OLDER_EVERY_S = 60.0


class HistoryPoint(msgspec.Struct, frozen=True, kw_only=True):
    """All variants together, at one decision. None: not known then."""

    time: float
    """Unix time in seconds."""
    model: str
    desired: int
    ready: int
    pending: int
    needed: float | None
    """The load: replicas that requests keep busy, each as fast as the objective asks."""
    arrivals_per_s: float | None
    queued: int | None
    held: int | None
    attainment: float | None
    """Share of the first tokens of the interval that were in time."""
    output_tokens_per_s: float | None
    cost_per_hour: float
    """Of all replicas that are not gone yet."""


class History:
    """Bounded; older points are thinned, not averaged: each is a moment that was."""

    def __init__(self, *, max_older: int = MAX_OLDER) -> None:
        self._recent: deque[HistoryPoint] = deque()
        self._older: deque[HistoryPoint] = deque(maxlen=max_older)

    def add(self, point: HistoryPoint) -> None:
        """The newest."""
        self._recent.append(point)
        if len(self._recent) > MAX_RECENT:
            oldest = self._recent.popleft()
            if not self._older or oldest.time - self._older[-1].time >= OLDER_EVERY_S:
                self._older.append(oldest)

    def since(self, time: float) -> Iterator[HistoryPoint]:
        """Points later than that, the oldest first."""
        return (p for points in (self._older, self._recent) for p in points if p.time > time)


def point_of(record: DecisionRecord, spec: ScalingSpec) -> HistoryPoint:
    """What a decision says of its moment."""
    seen = record.observation
    desired = {**record.before, **record.decision.desired}
    needed = [n for name, n in record.decision.explain.items() if name.endswith(".load")]
    return HistoryPoint(
        time=record.time,
        model=record.model,
        desired=sum(desired.values()),
        ready=sum(v.ready for v in seen.variants),
        pending=sum(v.pending for v in seen.variants),
        needed=sum(needed) if needed else None,
        arrivals_per_s=per_s(seen.arrivals, seen),
        queued=seen.queued,
        held=seen.held,
        attainment=attainment([record]),
        output_tokens_per_s=per_s(seen.output_tokens, seen),
        cost_per_hour=cost_per_hour(record, spec),
    )


def per_s(amount: int | None, seen: Observation) -> float | None:
    """What came in the interval of an observation, as a rate."""
    return None if amount is None else amount / seen.interval_s


def attainment(records: list[DecisionRecord]) -> float | None:
    """Share of first tokens in time over some decisions; None: there were none."""
    variants = [v for record in records for v in record.observation.variants]
    total = sum(v.num_first_tokens or 0 for v in variants)
    return sum(v.num_in_time or 0 for v in variants) / total if total else None


def cost_per_hour(record: DecisionRecord, spec: ScalingSpec) -> float:
    """Of replicas that run, start or drain; those without a place cost nothing."""
    prices = {variant.name: variant.cost_per_hour for variant in spec.variants}
    return sum(
        prices.get(v.name, 0.0) * (v.ready + max(v.pending - v.unschedulable, 0) + v.draining)
        for v in record.observation.variants
    )
