"""Nodes without machines: pods that the scheduler binds become Ready, and terminating ones go."""

from __future__ import annotations

import asyncio
import datetime
import itertools
from collections.abc import Awaitable, Callable
from types import TracebackType

import httpx

from .api import Api, ApiError, Json, Mirror, at

GPU = "nvidia.com/gpu"
NODE_OF = "shoal.test/namespace"
"""Label of a node: the namespace whose pods it is for."""


def timestamp() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class FakeKubelet:
    """The nodes of one namespace, and what happens to the pods bound to them.

    `load_s` is the time from binding to Ready, as a model that loads takes it; `grace_s` the time a
    terminating pod takes. Both may be changed at any time and count for what begins afterwards.
    """

    def __init__(
        self, api: Api, namespace: str, *, load_s: float = 0.1, grace_s: float = 0.1
    ) -> None:
        self.load_s = load_s
        self.grace_s = grace_s
        self.can_load = asyncio.Event()
        """Cleared: nothing becomes Ready until it is set again."""
        self.can_load.set()
        self._api = api
        self._namespace = namespace
        self.pods = Mirror(api, at("pods", namespace))
        self._started: set[str] = set()
        self._ending: set[str] = set()
        self._addresses = itertools.count(1)
        self._nodes: list[str] = []
        self._tasks = asyncio.TaskGroup()
        self._main: list[asyncio.Task[None]] = []
        self._each: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> FakeKubelet:
        await self._tasks.__aenter__()
        self._main = [
            self._tasks.create_task(self.pods.run()),
            self._tasks.create_task(self._run()),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        for task in [*self._main, *self._each]:
            task.cancel()
        await self._tasks.__aexit__(kind, error, trace)

    async def add_node(self, gpus: int, *, labels: dict[str, str] | None = None) -> str:
        """A Ready node with so many GPUs, for pods of this namespace; its name."""
        name = f"{self._namespace}-{len(self._nodes)}"
        self._nodes.append(name)
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {NODE_OF: self._namespace, **(labels or {})}},
        }
        await self._api.create(at("nodes"), node)
        await self.set_gpus(name, gpus)
        return name

    async def set_gpus(self, node: str, gpus: int) -> None:
        """A node that has more GPUs from now on, or fewer."""
        room = {"cpu": "64", "memory": "512Gi", "pods": "110", GPU: str(gpus)}
        now = timestamp()
        ready = {
            "type": "Ready", "status": "True", "reason": "KubeletReady",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        }  # fmt: skip
        status = {"capacity": room, "allocatable": room, "conditions": [ready]}
        await self._api.merge(at("nodes", name=node, sub="status"), {"status": status})

    async def remove_nodes(self) -> None:
        for name in self._nodes:
            await self._api.delete(at("nodes", name=name))

    async def _run(self) -> None:
        while True:
            await self.pods.changed.wait()
            self.pods.changed.clear()
            for pod in list(self.pods.objects.values()):
                uid = pod["metadata"]["uid"]
                if pod["metadata"].get("deletionTimestamp"):
                    if uid not in self._ending:
                        self._ending.add(uid)
                        self._spawn(pod, ends=True)
                elif pod["spec"].get("nodeName") and uid not in self._started:
                    self._started.add(uid)
                    self._spawn(pod, ends=False)

    def _spawn(self, pod: Json, *, ends: bool) -> None:
        task = self._tasks.create_task(self._end(pod) if ends else self._load(pod))
        self._each.add(task)
        task.add_done_callback(self._each.discard)

    async def _load(self, pod: Json) -> None:
        await asyncio.sleep(self.load_s)
        await self.can_load.wait()
        now = timestamp()
        number = next(self._addresses)
        containers = [
            {
                "name": container["name"], "image": container["image"], "imageID": "fake",
                "ready": True, "started": True, "restartCount": 0,
                "state": {"running": {"startedAt": now}},
            }
            for container in pod["spec"]["containers"]
        ]  # fmt: skip
        kinds = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        status = {
            "phase": "Running",
            "podIP": f"10.1.{number // 250}.{number % 250 + 1}",
            "startTime": now,
            "containerStatuses": containers,
            "conditions": [
                {"type": kind, "status": "True", "lastTransitionTime": now} for kind in kinds
            ],
        }
        path = at("pods", self._namespace, pod["metadata"]["name"], "status")
        await self._insist(lambda: self._api.merge(path, {"status": status}))

    async def _end(self, pod: Json) -> None:
        await asyncio.sleep(self.grace_s)
        path = at("pods", self._namespace, pod["metadata"]["name"])
        await self._insist(lambda: self._api.delete(path, grace_s=0))

    async def _insist(self, call: Callable[[], Awaitable[Json]]) -> None:
        """Until it is done, or the pod is gone: the API server may be away meanwhile."""
        while True:
            try:
                await call()
            except httpx.HTTPError:
                await asyncio.sleep(0.1)
            except ApiError as error:
                if error.code < 500:
                    return
                await asyncio.sleep(0.1)
            else:
                return
