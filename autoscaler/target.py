"""The seams of the shell: where replicas are counted and set, and where signals come from.

Local worker processes, a `/scale` subresource, a KServe InferenceService: each is a `Target`. The
router and its workers are a `Collector`. `loop.py` joins them with `core.decide`, and is the only
place that does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from .core.decision import Decision
from .core.observation import Observation, VariantObservation


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """Replicas of one variant, now. A replica of a LeaderWorkerSet is a whole group of pods."""

    desired: int
    """What the target itself says, whoever wrote it."""
    ready: int
    pending: int = 0
    """Created, and neither ready nor draining; those without a place included."""
    unschedulable: int = 0
    """Of `pending`: the platform says that it has no place for them."""
    draining: int = 0
    start_up_s: tuple[float, ...] = ()
    """Of each replica that became ready since the last call: seconds from its creation on."""


class Target(Protocol):
    """One variant whose number of replicas can be read and set."""

    async def replicas(self) -> Replicas | None:
        """None: not known at the moment, which is not 0. Never raises for a platform in trouble."""

    async def scale(self, desired: int, decision: Decision) -> None:
        """Have so many; returns when it is asked for, not when it is so.

        Replicas that are given up are drained first. Raises ScaleFailed when it was not taken: the
        next decision asks again.
        """


class Collector(Protocol):
    """What a model is asked for and how its replicas answer."""

    async def observe(self, replicas: Mapping[str, Replicas], now: float) -> Observation:
        """Since the last call. What cannot be had is None in it; never raises for a source in
        trouble. `replicas` by variant, as the targets gave them."""

    async def held(self, wait_s: float) -> int:
        """Requests that wait at the router because the model has no replica.

        Answers as soon as there are some, else after `wait_s` with 0; what cannot be asked is 0.
        """


def observed(name: str, replicas: Replicas) -> VariantObservation:
    """What a target alone says of a variant."""
    return VariantObservation(
        name=name,
        desired=replicas.desired,
        ready=replicas.ready,
        pending=replicas.pending,
        unschedulable=replicas.unschedulable,
        draining=replicas.draining,
        start_up_s=replicas.start_up_s,
    )
