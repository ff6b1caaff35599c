"""The controller's targets in this process, on a real API server: the test is who decides."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from shoal.autoscaler.collect.fetch import open_client
from shoal.autoscaler.core.decision import Decision
from shoal.autoscaler.kubernetes.api import connect
from shoal.autoscaler.kubernetes.edits import Edit
from shoal.autoscaler.kubernetes.resources import Reference, Resources
from shoal.autoscaler.kubernetes.routers import Routers
from shoal.autoscaler.kubernetes.scale_target import Listeners, Options, ScaleTarget, open_target
from shoal.autoscaler.target import Replicas
from shoal.clock import MonotonicClock
from tests.autoscaler.kubernetes.waiting import running

from ..control_plane.launcher import ControlPlane
from .eventually import eventually
from .fake_router import FakeRouter
from .policies import API_VERSIONS

DECISION = Decision(desired={}, valid=True, reasons=(), explain={})


class Bench:
    """Opens targets named `m`, and notes what they tell."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.edits: list[Edit] = []
        self._plane = plane
        self._namespace = namespace

    @contextlib.asynccontextmanager
    async def open(
        self, kind: str = "Deployment", *, router: FakeRouter | None = None, **options: Any
    ) -> AsyncIterator[ScaleTarget]:
        async with contextlib.AsyncExitStack() as stack:
            api = await stack.enter_async_context(connect(str(self._plane.kubeconfig)))
            routers = None
            if router is not None:
                client = await stack.enter_async_context(open_client())
                routers = Routers(client, [router.url])
            target = await open_target(
                api, Resources(api), Reference(API_VERSIONS[kind], kind, self._namespace, "m"),
                routers=routers, options=Options(**options), clock=MonotonicClock(),
                listeners=Listeners(on_edit=self.edits.append),
            )  # fmt: skip
            await stack.enter_async_context(running(target.run()))
            yield target


async def until_target(target: ScaleTarget, **wanted: int) -> Replicas:
    """Waits until the target tells these numbers."""
    last: list[Replicas | None] = [None]

    async def look() -> Replicas | None:
        found = last[0] = await target.replicas()
        if found is None or any(getattr(found, name) != n for name, n in wanted.items()):
            return None
        return found

    try:
        return await eventually(look, f"{wanted}")
    except AssertionError as error:
        raise AssertionError(f"{error}: {last[0]}, {target.problem}") from None
