"""Pods -> `Replicas`, where a replica is one pod: Deployment, StatefulSet, kinds of your own. Pure.

A rollout brings pods beyond `spec.replicas` (maxSurge). They are nobody's order: the next scaling
must not count them as coming, and they are gone when the rollout is over. So all counts are held to
what was asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from ..target import Replicas
from .pods import Pod, PodState, state_of


def replicas_of_pods(
    pods: Iterable[Pod], wanted: int, giving_up: Collection[str] = frozenset()
) -> Replicas:
    """`wanted` is `spec.replicas`, or what it is about to become while the pods named in
    `giving_up` are being emptied."""
    states: Counter[PodState] = Counter()
    for pod in pods:
        state = state_of(pod)
        is_emptied = state is PodState.READY and pod.name in giving_up
        states[PodState.DRAINING if is_emptied else state] += 1
    return counted(states, wanted)


def counted(states: Counter[PodState], wanted: int) -> Replicas:
    """The states of all replicas there are, held to the number that is wanted."""
    ready = min(states[PodState.READY], wanted)
    created = states[PodState.PENDING] + states[PodState.UNSCHEDULABLE]
    pending = min(created, wanted - ready)
    # A surge without a place is no shortage: what was asked for is there.
    unschedulable = max(states[PodState.UNSCHEDULABLE] - (created - pending), 0)
    return Replicas(
        desired=wanted,
        ready=ready,
        pending=pending,
        unschedulable=unschedulable,
        draining=states[PodState.DRAINING],
    )
