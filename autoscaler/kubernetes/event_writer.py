"""Events (events.k8s.io/v1), written in the background. They are for people: failures drop them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from shoal.clock import Clock
from shoal.errors import ClusterError

from .api import FIELD_MANAGER, MERGE_PATCH, Api
from .events import MAX_NOTE, Ledger, Told, Write

MAX_QUEUED = 256

log = structlog.get_logger(__name__)

Tell = Callable[[Told], None]


class EventWriter:
    """`run` is a task of the controller."""

    def __init__(self, api: Api, *, instance: str, clock: Clock) -> None:
        """`instance` is who we are among our replicas."""
        self._api = api
        self._instance = instance[:128]
        self._clock = clock
        self._ledger = Ledger()
        self._run = secrets.token_hex(4)
        self._queue: asyncio.Queue[tuple[Told, Write]] = asyncio.Queue(MAX_QUEUED)

    def tell(self, told: Told) -> None:
        """Never waits, never raises."""
        write = self._ledger.take(told, self._clock.now())
        if write is None:
            return
        try:
            self._queue.put_nowait((told, write))
        except asyncio.QueueFull:
            log.warning("events.dropped", reason=told.reason, object=told.regarding.name)

    async def run(self) -> None:
        while True:
            told, write = await self._queue.get()
            try:
                await self._write(told, write)
            except ClusterError as error:
                log.warning("events.not_written", reason=told.reason, error=str(error))

    async def _write(self, told: Told, write: Write) -> None:
        namespace = told.regarding.namespace
        path = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
        name = f"{told.regarding.name}.{self._run}.{write.number}"
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if write.count > 1:
            series = {"series": {"count": write.count, "lastObservedTime": now}}
            await self._api.write("PATCH", f"{path}/{name}", series, content_type=MERGE_PATCH)
            return
        await self._api.write("POST", path, self._body(told, name, now))

    def _body(self, told: Told, name: str, now: str) -> dict[str, Any]:
        about = told.regarding
        regarding = {
            "apiVersion": about.api_version, "kind": about.kind, "namespace": about.namespace,
            "name": about.name,
        }  # fmt: skip
        if about.uid:
            regarding["uid"] = about.uid
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": about.namespace},
            "eventTime": now,
            "reportingController": FIELD_MANAGER,
            "reportingInstance": self._instance,
            "action": "Scale",
            "reason": told.reason,
            "type": "Warning" if told.is_warning else "Normal",
            "note": told.note[:MAX_NOTE],
            "regarding": regarding,
        }
