"""A small Kubernetes API server for EndpointSlices: list, watch, versions, bookmarks, 410 Gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from tests.kubernetes_api import NAMESPACE, served

PATH = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"


def endpoint(address: str, *, pod: str | None = None, zone: str | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"addresses": [address], "conditions": {"ready": True}}
    if pod is not None:
        made["targetRef"] = {"kind": "Pod", "name": pod, "namespace": NAMESPACE}
    if zone is not None:
        made["zone"] = zone
    return made


def slice_(
    name: str,
    *endpoints: dict[str, Any],
    ports: list[dict[str, Any]] | None = None,
    labels: dict[str, str] | None = None,
) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels or {}},
        "addressType": "IPv4",
        "endpoints": list(endpoints),
        "ports": ports if ports is not None else [{"name": "http", "port": 8000}],
    }


class FakeApi:
    """One namespace with one selector."""

    def __init__(self) -> None:
        self.version = 100
        self.slices: dict[str, dict[str, Any]] = {}
        self.events: list[tuple[int, dict[str, Any]]] = []
        self.oldest = 0
        """Watches from before this version are refused."""
        self.status = 200
        """Of lists."""
        self.queries: list[dict[str, str]] = []
        self.authorizations: list[str | None] = []
        self._changed = asyncio.Event()
        self._cut = asyncio.Event()
        self.url = ""

    @property
    def num_lists(self) -> int:
        return sum(1 for query in self.queries if "watch" not in query)

    @property
    def num_watches(self) -> int:
        return len(self.queries) - self.num_lists

    def put(self, made: dict[str, Any]) -> None:
        name = made["metadata"]["name"]
        kind = "MODIFIED" if name in self.slices else "ADDED"
        self._happened(kind, made)
        self.slices[name] = made

    def delete(self, name: str) -> None:
        self._happened("DELETED", self.slices.pop(name))

    def bookmark(self) -> None:
        self._happened("BOOKMARK", {"metadata": {}})

    def gone(self) -> None:
        """Running watches end with 410, as they do after a compaction."""
        self.oldest = self.version + 1
        self.version += 1
        self.send({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "old"}})

    def send(self, event: dict[str, Any]) -> None:
        self.events.append((self.version, event))
        self._changed.set()

    def cut(self) -> None:
        """Running watches end without a word."""
        self._cut.set()

    def _happened(self, kind: str, made: dict[str, Any]) -> None:
        self.version += 1
        made["metadata"]["resourceVersion"] = str(self.version)
        self.send({"type": kind, "object": made})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        self.queries.append(query)
        self.authorizations.append(request.headers.get("Authorization"))
        if "watch" in query:
            return await self._watch(request, int(query["resourceVersion"]))
        if self.status != 200:
            body = {"kind": "Status", "code": self.status, "message": "no"}
            return web.json_response(body, status=self.status)
        items = list(self.slices.values())
        return web.json_response(
            {"metadata": {"resourceVersion": str(self.version)}, "items": items}
        )

    async def _watch(self, request: web.Request, version: int) -> web.StreamResponse:
        if version < self.oldest:
            body = {"kind": "Status", "code": 410, "message": "too old"}
            return web.json_response(body, status=410)
        sent = len([event for at, event in self.events if at <= version])
        response = web.StreamResponse()
        await response.prepare(request)
        while not self._cut.is_set():
            self._changed.clear()
            for _, event in self.events[sent:]:
                text = json.dumps(event).encode() + b"\n"
                await response.write(text[:20])
                await response.write(text[20:])
            sent = len(self.events)
            waiting = [asyncio.ensure_future(e.wait()) for e in (self._changed, self._cut)]
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for waiter in waiting:
                    waiter.cancel()
        self._cut.clear()
        return response


@contextlib.asynccontextmanager
async def fake_api() -> AsyncIterator[FakeApi]:
    api = FakeApi()
    async with served(api.handle, method="GET", path=PATH) as api.url:
        try:
            yield api
        finally:
            api.cut()
