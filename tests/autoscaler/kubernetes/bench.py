"""One target before the fake API server and a fake router."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from shoal.autoscaler.collect.fetch import open_client
from shoal.autoscaler.core.decision import Decision
from shoal.autoscaler.kubernetes.api import Api
from shoal.autoscaler.kubernetes.edits import Edit
from shoal.autoscaler.kubernetes.resources import Reference, Resources
from shoal.autoscaler.kubernetes.routers import Routers
from shoal.autoscaler.kubernetes.scale_target import (
    Listeners,
    Options,
    ScaleTarget,
    open_target,
)
from shoal.autoscaler.target import Replicas
from shoal.clock import VirtualClock
from tests.autoscaler.kubernetes.fake_api import FakeApi
from tests.autoscaler.kubernetes.fake_router import FakeRouter
from tests.autoscaler.kubernetes.objects import pod_object
from tests.autoscaler.kubernetes.waiting import running, until

DEPLOYMENTS = "apis/apps/v1/deployments"
GROUPS = "apis/leaderworkerset.x-k8s.io/v1/leaderworkersets"
PODS = "api/v1/pods"
LABELS = {"app": "llama"}
DECISION = Decision(desired={}, valid=True, reasons=(), explain={})


def deployment(replicas: int) -> dict[str, Any]:
    spec = {"replicas": replicas, "selector": {"matchLabels": LABELS}}
    return {"metadata": {"name": "llama"}, "spec": spec}


def reference(kind: str = "Deployment", api_version: str = "apps/v1") -> Reference:
    return Reference(api_version, kind, "llm", "llama")


class Bench:
    """One target with what it told."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.edits: list[Edit] = []
        self.num_troubles = 0

    @contextlib.asynccontextmanager
    async def open(
        self, api: Api, *, at: Reference | None = None, router: FakeRouter | None = None,
        options: Options | None = None,
    ) -> AsyncIterator[ScaleTarget]:  # fmt: skip
        async with contextlib.AsyncExitStack() as stack:
            routers = None
            if router is not None:
                client = await stack.enter_async_context(open_client())
                routers = Routers(client, [router.url], "key")
            target = await open_target(
                api, Resources(api), at or reference(), routers=routers,
                options=options or Options(), clock=self.clock,
                listeners=Listeners(on_edit=self.edits.append, on_trouble=self._trouble),
            )  # fmt: skip
            await stack.enter_async_context(running(target.run()))
            yield target

    def _trouble(self) -> None:
        self.num_troubles += 1


async def known(target: ScaleTarget) -> Replicas:
    """As soon as its pods are listed."""
    found: list[Replicas] = []

    async def look() -> None:
        while (replicas := await target.replicas()) is None:
            await until(lambda: target._pods is not None and target._pods.age() is not None)
        found.append(replicas)

    await look()
    return found[0]


async def pods_of(server: FakeApi, *states: str) -> None:
    for index, state in enumerate(states):
        await server.put(PODS, pod_object(f"p{index}", state, labels=LABELS, created=float(index)))


def replicas_in(server: FakeApi, resource: str = DEPLOYMENTS) -> int:
    return int(server.get(resource, "llama")["spec"]["replicas"])
