"""Which pods to empty before replicas are lowered: those that their controller will delete. Pure.

- A ReplicaSet deletes pods that are not ready first, then by `pod-deletion-cost`: there we choose,
  and choose those with the fewest requests.
- A StatefulSet deletes the highest ordinals, a LeaderWorkerSet the highest groups: no choice.
- Of other controllers nothing is known; their pods end by Kubernetes' own grace period.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from .pods import Pod, PodState, num_living, state_of
from .replicas_of_groups import Group

_ORDINAL = re.compile(r"-(\d+)$")


def of_deployment(
    pods: Collection[Pod], present: int, keep: int, in_flight: Mapping[str, int],
    already: Collection[str],
) -> list[Pod]:  # fmt: skip
    """Ready pods to empty before `spec.replicas` goes from `present` to `keep`.

    `in_flight` has requests by pod, `already` the names of those that are being emptied: they go
    first, for they have the fewest by now. Ties fall on the youngest, whose cache is the coldest.
    """
    ready = [p for p in pods if state_of(p) is PodState.READY]
    # Pods that are not ready are deleted first; a surge beyond `present` is the rollout's business.
    num = min(num_living(pods), present)
    num_waiting = max(num - len(ready), 0)
    excess = max(num - keep - num_waiting, 0)
    youngest_first = sorted(ready, key=lambda p: (_created(p), p.name), reverse=True)
    order = sorted(youngest_first, key=lambda p: (p.name not in already, in_flight.get(p.name, 0)))
    return order[:excess]


def of_stateful_set(pods: Iterable[Pod], keep: int) -> list[Pod]:
    """Ready pods whose ordinal is not among the first `keep`."""
    return [
        pod
        for pod in pods
        if state_of(pod) is PodState.READY
        and (found := _ORDINAL.search(pod.name)) is not None
        and int(found[1]) >= keep
    ]


def of_groups(groups: Iterable[Group], keep: int) -> list[Group]:
    """Ready groups whose index is not among the first `keep`, from the top."""
    found = [g for g in groups if g.index >= keep and g.state is PodState.READY]
    return sorted(found, key=lambda group: group.index, reverse=True)


def _created(pod: Pod) -> float:
    created = pod.metadata.creation_timestamp
    return 0.0 if created is None else created.timestamp()
