"""Pods as JSON, the fields that are read of them, and what state each is in. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from datetime import datetime

import msgspec

DRAINING_ANNOTATION = "autoscaling.shoal.dev/draining"
"""On pods that are being emptied: whoever leads next knows what was under way."""
DELETION_COST_ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"
"""A ReplicaSet deletes the cheapest of its ready pods first."""


class OwnerReference(msgspec.Struct):
    kind: str = ""
    name: str = ""
    controller: bool = False


class PodMetadata(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[OwnerReference] = []
    creation_timestamp: datetime | None = None
    deletion_timestamp: str | None = None


class PodCondition(msgspec.Struct, rename="camel"):
    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None
    last_transition_time: datetime | None = None


class PodStatus(msgspec.Struct, rename="camel"):
    phase: str = ""
    conditions: list[PodCondition] = []
    pod_ip: str | None = msgspec.field(default=None, name="podIP")


class Pod(msgspec.Struct):
    metadata: PodMetadata = msgspec.field(default_factory=PodMetadata)
    status: PodStatus = msgspec.field(default_factory=PodStatus)

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def owner_kind(self) -> str:
        """Of its controller; empty: it has none."""
        return next((o.kind for o in self.metadata.owner_references if o.controller), "")

    def condition(self, kind: str) -> PodCondition | None:
        return next((c for c in self.status.conditions if c.type == kind), None)


class PodState(enum.Enum):
    READY = enum.auto()
    PENDING = enum.auto()
    """Created and not ready, for whatever reason."""
    UNSCHEDULABLE = enum.auto()
    """Pending, and the scheduler says that it has no place for it."""
    DRAINING = enum.auto()
    """To be deleted; it may still answer."""
    OVER = enum.auto()
    """Failed or succeeded: it will never answer."""


def state_of(pod: Pod) -> PodState:
    if pod.metadata.deletion_timestamp is not None:
        return PodState.DRAINING
    if pod.status.phase in ("Failed", "Succeeded"):
        return PodState.OVER
    ready = pod.condition("Ready")
    if ready is not None and ready.status == "True":
        return PodState.READY
    scheduled = pod.condition("PodScheduled")
    if (
        scheduled is not None
        and scheduled.status == "False"
        and scheduled.reason == "Unschedulable"
    ):
        return PodState.UNSCHEDULABLE
    return PodState.PENDING


def num_living(pods: Iterable[Pod]) -> int:
    """Of those that are neither over nor to be deleted."""
    return sum(state_of(pod) not in (PodState.DRAINING, PodState.OVER) for pod in pods)


def ready_at(pod: Pod) -> datetime | None:
    """When it became ready; None: it is not."""
    ready = pod.condition("Ready")
    return ready.last_transition_time if ready is not None and ready.status == "True" else None


def why_unschedulable(pods: Iterable[Pod]) -> str:
    """The scheduler's words for one of them; empty: all have a place."""
    for pod in pods:
        scheduled = pod.condition("PodScheduled")
        if state_of(pod) is PodState.UNSCHEDULABLE and scheduled is not None:
            return scheduled.message or "the scheduler has no place for it"
    return ""
