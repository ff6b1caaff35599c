"""What pods are to their workload: replicas, starts, and those that go first. Pure.

One pod is one replica, but for a LeaderWorkerSet, where a group is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from ..target import Replicas
from . import victims
from .pods import Pod, PodState, ready_at, state_of
from .replicas_of_groups import NAME_LABEL, groups_of, replicas_of_groups
from .replicas_of_pods import replicas_of_pods
from .start_ups import Unit

LEADER_WORKER_SET = "LeaderWorkerSet"


class Workload(Protocol):
    """How to read the pods of one kind of target."""

    def selector(self, name: str, of_scale: str) -> str:
        """Of its pods; `of_scale` is what its `/scale` tells. Empty: they cannot be found."""

    def replicas(self, pods: Sequence[Pod], wanted: int, given_up: Collection[str]) -> Replicas: ...

    def starts(self, pods: Sequence[Pod]) -> list[Unit]: ...

    def victims(
        self, pods: Sequence[Pod], present: int, keep: int, in_flight: Mapping[str, int],
        already: Collection[str],
    ) -> list[Pod]:  # fmt: skip
        """Pods to empty before `spec.replicas` goes from `present` to `keep`."""


class SinglePods:
    """Deployment, StatefulSet, and kinds whose pods these own."""

    def selector(self, name: str, of_scale: str) -> str:
        return of_scale

    def replicas(self, pods: Sequence[Pod], wanted: int, given_up: Collection[str]) -> Replicas:
        return replicas_of_pods(pods, wanted, given_up)

    def starts(self, pods: Sequence[Pod]) -> list[Unit]:
        return [(p.metadata.uid, p.metadata.creation_timestamp, ready_at(p)) for p in pods]

    def victims(
        self, pods: Sequence[Pod], present: int, keep: int, in_flight: Mapping[str, int],
        already: Collection[str],
    ) -> list[Pod]:  # fmt: skip
        owners = {pod.owner_kind for pod in pods if state_of(pod) is PodState.READY}
        if owners == {"ReplicaSet"}:
            return victims.of_deployment(pods, present, keep, in_flight, already)
        if owners == {"StatefulSet"}:
            return victims.of_stateful_set(pods, keep)
        # Of others nobody knows whom they delete; but at zero it is everyone.
        return [] if keep else [pod for pod in pods if state_of(pod) is PodState.READY]


@dataclasses.dataclass(frozen=True, slots=True)
class GroupsOfPods:
    """LeaderWorkerSet."""

    default_size: int
    """Of a group whose pods do not tell."""

    def selector(self, name: str, of_scale: str) -> str:
        return f"{NAME_LABEL}={name}"  # that of its scale finds leaders alone

    def replicas(self, pods: Sequence[Pod], wanted: int, given_up: Collection[str]) -> Replicas:
        groups = groups_of(pods, self.default_size).values()
        emptied = {g.index for g in groups if any(pod.name in given_up for pod in g.pods)}
        return replicas_of_groups(groups, wanted, emptied)

    def starts(self, pods: Sequence[Pod]) -> list[Unit]:
        groups = groups_of(pods, self.default_size).values()
        return [
            (leader.metadata.uid, group.created_at, group.ready_at)
            for group in groups
            if (leader := group.leader) is not None
        ]

    def victims(
        self, pods: Sequence[Pod], present: int, keep: int, in_flight: Mapping[str, int],
        already: Collection[str],
    ) -> list[Pod]:  # fmt: skip
        groups = groups_of(pods, self.default_size).values()
        return [pod for group in victims.of_groups(groups, keep) for pod in group.pods]


def workload_of(kind: str, pods_per_replica: int) -> Workload:
    return GroupsOfPods(pods_per_replica) if kind == LEADER_WORKER_SET else SinglePods()
