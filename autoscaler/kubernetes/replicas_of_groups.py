"""Pods -> `Replicas` of a LeaderWorkerSet, where a replica is a group of `size` pods. Pure.

A group answers when all of its pods are ready, and needs a place for every one. Scaling down takes
the highest group indexes, whatever they have to do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from ..target import Replicas
from .pods import Pod, PodState, ready_at, state_of
from .replicas_of_pods import counted

NAME_LABEL = "leaderworkerset.sigs.k8s.io/name"
GROUP_LABEL = "leaderworkerset.sigs.k8s.io/group-index"
WORKER_LABEL = "leaderworkerset.sigs.k8s.io/worker-index"
SIZE_ANNOTATION = "leaderworkerset.sigs.k8s.io/size"


@dataclass(frozen=True, slots=True)
class Group:
    """The pods of one group that are there now."""

    index: int
    size: int
    """Pods it has when it is complete."""
    pods: tuple[Pod, ...]

    @property
    def leader(self) -> Pod | None:
        return next((p for p in self.pods if p.metadata.labels.get(WORKER_LABEL) == "0"), None)

    @property
    def state(self) -> PodState:
        """One pod that goes takes the group with it; one that waits makes it wait."""
        states = [state_of(pod) for pod in self.pods]
        if PodState.DRAINING in states:
            return PodState.DRAINING
        if PodState.UNSCHEDULABLE in states:
            return PodState.UNSCHEDULABLE
        is_whole = states.count(PodState.READY) >= self.size
        return PodState.READY if is_whole else PodState.PENDING

    @property
    def created_at(self) -> datetime | None:
        return min((t for p in self.pods if (t := p.metadata.creation_timestamp)), default=None)

    @property
    def ready_at(self) -> datetime | None:
        """When its last pod became ready; None: it is not whole yet."""
        if self.state is not PodState.READY:
            return None
        return max((t for pod in self.pods if (t := ready_at(pod))), default=None)


def groups_of(pods: Iterable[Pod], default_size: int) -> dict[int, Group]:
    """By index; pods without LeaderWorkerSet's labels are nobody's. The size that pods carry wins
    over `default_size`: it is what their controller goes by."""
    by_index: dict[int, list[Pod]] = {}
    for pod in pods:
        if (index := pod.metadata.labels.get(GROUP_LABEL, "")).isdecimal():
            by_index.setdefault(int(index), []).append(pod)
    return {
        index: Group(index, _size(members) or default_size, tuple(members))
        for index, members in sorted(by_index.items())
    }


def replicas_of_groups(
    groups: Iterable[Group], wanted: int, giving_up: Collection[int] = frozenset()
) -> Replicas:
    """`wanted` is `spec.replicas`, or what it is about to become while the groups with the indexes
    in `giving_up` are being emptied."""
    states: Counter[PodState] = Counter()
    for group in groups:
        is_emptied = group.state is PodState.READY and group.index in giving_up
        states[PodState.DRAINING if is_emptied else group.state] += 1
    return counted(states, wanted)


def _size(pods: Iterable[Pod]) -> int:
    said = [pod.metadata.annotations.get(SIZE_ANNOTATION, "") for pod in pods]
    return max((int(size) for size in said if size.isdecimal()), default=0)
