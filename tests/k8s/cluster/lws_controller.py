"""A double of the LeaderWorkerSet controller: groups of pods with its names, labels and manners.

What a scaler can see is as the real one does it: pods `<lws>-<group>` (the leader) and
`<lws>-<group>-<worker>`, the highest group goes first, a rollout with maxSurge has more groups than
`spec.replicas`, one pod lost means a new group, `/scale` selects leaders alone. What it cannot see
is shorter: pods belong to the set itself, without StatefulSets between them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import httpx

from .api import Api, ApiError, Json, Mirror, at

_PREFIX = "leaderworkerset.sigs.k8s.io"
NAME, GROUP, WORKER = (f"{_PREFIX}/{word}" for word in ("name", "group-index", "worker-index"))
REVISION = f"{_PREFIX}/template-revision-hash"
SIZE = f"{_PREFIX}/size"


@dataclass(slots=True)
class Group:
    """The pods of one group, by worker index; 0 leads."""

    pods: dict[int, Json] = field(default_factory=dict)

    @property
    def revision(self) -> str | None:
        """None: the leader is not there."""
        leader = self.pods.get(0)
        return None if leader is None else str(leader["metadata"]["labels"][REVISION])

    @property
    def is_broken(self) -> bool:
        """A pod ends: with RecreateGroupOnPodRestart, all of them do."""
        return any(pod["metadata"].get("deletionTimestamp") for pod in self.pods.values())

    def is_ready(self, size: int) -> bool:
        return (
            len(self.pods) == size and not self.is_broken and all(map(is_ready, self.pods.values()))
        )


def is_ready(pod: Json) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


class LwsController:
    """All LeaderWorkerSets of one namespace."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._sets = Mirror(api, at("leaderworkersets", namespace))
        self._pods = Mirror(api, at("pods", namespace), labelSelector=NAME)
        self._rolling: set[str] = set()
        """Sets whose rollout is not over."""

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sets.run())
            tasks.create_task(self._pods.run())
            while True:
                changes = [
                    tasks.create_task(mirror.changed.wait()) for mirror in (self._sets, self._pods)
                ]
                await asyncio.wait(changes, return_when=asyncio.FIRST_COMPLETED)
                for change in changes:
                    change.cancel()
                self._sets.changed.clear()
                self._pods.changed.clear()
                for lws in list(self._sets.objects.values()):
                    try:
                        await self._reconcile(lws)
                    except httpx.HTTPError:
                        await asyncio.sleep(0.1)
                        self._sets.changed.set()
                    except ApiError as error:
                        # Somebody was faster, which the watch will tell; or the server is starting.
                        if error.code >= 500:
                            await asyncio.sleep(0.1)
                            self._sets.changed.set()

    async def _reconcile(self, lws: Json) -> None:
        if lws["metadata"].get("deletionTimestamp"):
            return
        groups = self._groups(lws["metadata"]["name"])
        spec, size = lws["spec"], lws["spec"]["leaderWorkerTemplate"]["size"]
        revision = revision_of(spec)
        wanted = self._num_groups(lws, groups, revision)
        for index in sorted(groups, reverse=True):
            group = groups[index]
            if group.is_broken or index >= wanted:
                await self._delete(group)
        await self._replace_one(spec, groups, revision, wanted)
        for index in range(wanted):
            group = groups.get(index, Group())
            if not group.is_broken:
                await self._complete(lws, index, group, revision)
        await self._report(lws, groups, revision, size)

    def _groups(self, name: str) -> dict[int, Group]:
        groups: dict[int, Group] = {}
        for pod in self._pods.objects.values():
            labels = pod["metadata"]["labels"]
            if labels[NAME] == name:
                group = groups.setdefault(int(labels[GROUP]), Group())
                group.pods[int(labels[WORKER])] = pod
        return groups

    def _num_groups(self, lws: Json, groups: dict[int, Group], revision: str) -> int:
        """`spec.replicas`, and the surge from a rollout's first step to its end."""
        name, spec = lws["metadata"]["name"], lws["spec"]
        size = spec["leaderWorkerTemplate"]["size"]
        counted = [groups.get(index, Group()) for index in range(spec["replicas"])]
        if any(group.revision not in (None, revision) for group in counted):
            self._rolling.add(name)
        elif all(group.is_ready(size) for group in counted):
            self._rolling.discard(name)
        surge = _rollout(spec, "maxSurge") if name in self._rolling else 0
        return int(spec["replicas"]) + surge

    async def _replace_one(
        self, spec: Json, groups: dict[int, Group], revision: str, wanted: int
    ) -> None:
        """The highest old group goes, if as many stay ready as must; its successor comes anew."""
        size = spec["leaderWorkerTemplate"]["size"]
        there = {index: groups[index] for index in range(wanted) if index in groups}
        old = [i for i, group in there.items() if group.revision not in (None, revision)]
        if not old:
            return
        ready = {i for i, group in there.items() if group.is_ready(size)}
        if len(ready - {max(old)}) >= spec["replicas"] - _rollout(spec, "maxUnavailable"):
            await self._delete(there[max(old)])

    async def _complete(self, lws: Json, index: int, group: Group, revision: str) -> None:
        size = lws["spec"]["leaderWorkerTemplate"]["size"]
        for worker in range(size):
            if worker in group.pods:
                continue
            if worker and lws["spec"]["startupPolicy"] == "LeaderReady":
                leader = group.pods.get(0)
                if leader is None or not is_ready(leader):
                    return
            # Workers of a group under way are of its leader's revision.
            pod = pod_of(lws, index, worker, group.revision or revision)
            await self._api.create(at("pods", self._namespace), pod)

    async def _delete(self, group: Group) -> None:
        for pod in group.pods.values():
            if not pod["metadata"].get("deletionTimestamp"):
                try:
                    await self._api.delete(at("pods", self._namespace, pod["metadata"]["name"]))
                except ApiError as error:
                    if error.code != httpx.codes.NOT_FOUND:
                        raise
                pod["metadata"]["deletionTimestamp"] = "asked for"

    async def _report(self, lws: Json, groups: dict[int, Group], revision: str, size: int) -> None:
        name = lws["metadata"]["name"]
        status = {
            "replicas": sum(0 in group.pods for group in groups.values()),
            "readyReplicas": sum(group.is_ready(size) for group in groups.values()),
            "updatedReplicas": sum(group.revision == revision for group in groups.values()),
            "observedGeneration": lws["metadata"]["generation"],
            "hpaPodSelector": f"{NAME}={name},{WORKER}=0",
        }
        known = lws.get("status", {})
        if any(known.get(key) != value for key, value in status.items()):
            path = at("leaderworkersets", self._namespace, name, "status")
            lws["status"] = (await self._api.merge(path, {"status": status}))["status"]


def _rollout(spec: Json, key: str) -> int:
    """The real webhooks default to no surge and one group less."""
    configuration = spec.get("rolloutStrategy", {}).get("rollingUpdateConfiguration", {})
    return int(configuration.get(key, {"maxSurge": 0, "maxUnavailable": 1}[key]))


def revision_of(spec: Json) -> str:
    text = json.dumps(spec["leaderWorkerTemplate"], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def pod_of(lws: Json, index: int, worker: int, revision: str) -> Json:
    """One pod, as the real controller names and labels it."""
    name, template = lws["metadata"]["name"], lws["spec"]["leaderWorkerTemplate"]
    body: dict[str, Any] = template["workerTemplate"]
    if worker == 0:
        body = template.get("leaderTemplate", body)
    leader = f"{name}-{index}"
    labels = {
        NAME: name, GROUP: str(index), WORKER: str(worker), REVISION: revision,
        f"{_PREFIX}/group-key": hashlib.sha1(leader.encode()).hexdigest(),
    }  # fmt: skip
    annotations = {SIZE: str(template["size"])}
    if worker:
        annotations[f"{_PREFIX}/leader-name"] = leader
    owner = {
        "apiVersion": lws["apiVersion"], "kind": lws["kind"], "name": name,
        "uid": lws["metadata"]["uid"], "controller": True,
    }  # fmt: skip
    metadata = body.get("metadata", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{leader}-{worker}" if worker else leader,
            "labels": {**metadata.get("labels", {}), **labels},
            "annotations": {**metadata.get("annotations", {}), **annotations},
            "ownerReferences": [owner],
        },
        "spec": body["spec"],
    }
