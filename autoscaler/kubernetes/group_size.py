"""Whether a policy knows how many pods a replica of its LeaderWorkerSet has.

If it does not, the GPU budget counts wrong and lets too much through, so the policy is refused.
"""

from __future__ import annotations

import msgspec

from .api import Api
from .resources import Reference, Resources, Unscalable, reading
from .workload import LEADER_WORKER_SET


class _Template(msgspec.Struct):
    size: int = 1


class _Spec(msgspec.Struct, rename="camel"):
    leader_worker_template: _Template = msgspec.field(default_factory=_Template)


class _Group(msgspec.Struct):
    spec: _Spec = msgspec.field(default_factory=_Spec)


async def check_group_size(
    api: Api, resources: Resources, reference: Reference, pods_per_replica: int
) -> None:
    """Raises ClusterError; Unscalable with the way to mend it. Other kinds have no groups."""
    if reference.kind != LEADER_WORKER_SET:
        return
    path = f"{await resources.collection(reference)}/{reference.name}"
    with reading(reference):
        found = msgspec.json.decode(await api.get(path), type=_Group)
    size = found.spec.leader_worker_template.size
    if size != pods_per_replica:
        raise Unscalable(
            "WrongSize",
            f"podsPerReplica is {pods_per_replica}, but a replica of {reference} is a group of"
            f" {size} pods: set podsPerReplica: {size}, or GPUs are counted wrong",
        )
