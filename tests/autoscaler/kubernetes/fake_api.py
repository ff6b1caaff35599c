"""A small Kubernetes API server: objects of any kind, versions, 409, watches, 410, /scale, /status.

It has no controllers, no schemas and no rights: what hangs on those is tested against the real
control plane (tests/k8s).
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.kubernetes_api import NAMESPACE, served

Object = dict[str, Any]

RESOURCES = {
    "apis/apps/v1": [
        ("deployments", "Deployment", True), ("statefulsets", "StatefulSet", True),
        ("daemonsets", "DaemonSet", False),
    ],
    "apis/leaderworkerset.x-k8s.io/v1": [("leaderworkersets", "LeaderWorkerSet", True)],
    "apis/serving.kserve.io/v1beta1": [("inferenceservices", "InferenceService", False)],
}  # fmt: skip
"""By group and version: resource, kind, whether it has a /scale."""


@dataclass
class Collection:
    """All objects of one resource in all namespaces, and what happened to them."""

    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    events: list[tuple[int, str, Object]] = field(default_factory=list)


@dataclass
class FakeApi:
    version: int = 100
    oldest: int = 0
    """Watches from before this version are refused."""
    collections: dict[str, Collection] = field(default_factory=dict)
    """By path without namespace: `apis/apps/v1/deployments`, `api/v1/pods`."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path; WATCH for a watch."""
    agents: set[str] = field(default_factory=set)
    answers: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """Statuses that the next requests with this method and end of path get instead."""
    is_down: bool = False
    url: str = ""
    _cut: asyncio.Event = field(default_factory=asyncio.Event)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    # For tests.

    def of(self, resource: str) -> Collection:
        return self.collections.setdefault(resource, Collection())

    def get(self, resource: str, name: str, namespace: str = NAMESPACE) -> Object:
        return self.of(resource).objects[namespace, name]

    async def put(self, resource: str, made: Object) -> Object:
        """Create or replace, as somebody with all rights."""
        made = copy.deepcopy(made)
        metadata = made["metadata"]
        metadata.setdefault("namespace", NAMESPACE)
        key = metadata["namespace"], metadata["name"]
        collection = self.of(resource)
        before = collection.objects.get(key)
        metadata.setdefault("uid", before["metadata"]["uid"] if before else str(uuid.uuid4()))
        generation = before["metadata"]["generation"] if before else 0
        is_other = before is None or before.get("spec") != made.get("spec")
        metadata["generation"] = generation + is_other
        collection.objects[key] = made
        await self._happened(collection, "MODIFIED" if before else "ADDED", made)
        return made

    async def delete(self, resource: str, name: str, namespace: str = NAMESPACE) -> None:
        collection = self.of(resource)
        await self._happened(collection, "DELETED", collection.objects.pop((namespace, name)))

    async def compact(self) -> None:
        """Running watches end with 410, and older versions cannot be watched from any more."""
        self.version += 1
        self.oldest = self.version
        for collection in self.collections.values():
            collection.events.append(
                (self.version, "ERROR", {"kind": "Status", "code": 410, "message": "too old"})
            )
        async with self._changed:
            self._changed.notify_all()

    def cut(self) -> None:
        """Running watches end without a word."""
        self._cut.set()
        self._cut = asyncio.Event()

    def num(self, method: str, end: str) -> int:
        return sum(1 for m, path in self.requests if m == method and path.endswith(end))

    async def _happened(self, collection: Collection, kind: str, made: Object) -> None:
        self.version += 1
        made["metadata"]["resourceVersion"] = str(self.version)
        collection.events.append((self.version, kind, copy.deepcopy(made)))
        async with self._changed:
            self._changed.notify_all()

    # The server.

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path.strip("/")
        method = "WATCH" if "watch" in request.query else request.method
        self.requests.append((method, f"/{path}"))
        self.agents.add(request.headers.get("User-Agent", ""))
        if self.is_down:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        for (verb, end), statuses in self.answers.items():
            if verb == method and path.endswith(end) and statuses:
                return _status(statuses.pop(0), "as the test wants it")
        if path in RESOURCES:
            return web.json_response(_discovery(RESOURCES[path]))
        parts = path.split("/")
        at = 2 if parts[0] == "api" else 3
        namespace = ""
        if parts[at : at + 1] == ["namespaces"]:
            namespace = parts[at + 1]
            del parts[at : at + 2]
        resource, rest = "/".join(parts[: at + 1]), parts[at + 1 :]
        if resource.rpartition("/")[0] not in {*RESOURCES, "api/v1"} and resource not in (
            "apis/coordination.k8s.io/v1/leases", "apis/events.k8s.io/v1/events",
            "apis/autoscaling.shoal.dev/v1alpha1/scalingpolicies",
        ):  # fmt: skip
            return _status(404, "the server could not find the requested resource")
        if not rest:
            return await self._on_collection(request, self.of(resource), resource, namespace)
        return await self._on_object(request, resource, (namespace, rest[0]), "".join(rest[1:]))

    async def _on_collection(
        self, request: web.Request, collection: Collection, resource: str, namespace: str
    ) -> web.StreamResponse:
        if request.method == "POST":
            made = await request.json()
            if (namespace, made["metadata"].get("name", "")) in collection.objects:
                return _status(409, "already exists")
            made["metadata"]["namespace"] = namespace
            return web.json_response(await self.put(resource, made), status=201)
        if "watch" in request.query:
            return await self._watch(request, collection, namespace)
        items = [o for o in collection.objects.values() if _matches(o, request, namespace)]
        body = {"metadata": {"resourceVersion": str(self.version)}, "items": items}
        return web.json_response(body)

    async def _on_object(
        self, request: web.Request, resource: str, key: tuple[str, str], sub: str
    ) -> web.Response:
        found = self.of(resource).objects.get(key)
        if found is None:
            return _status(404, f"{key[1]} not found")
        if request.method == "GET":
            return web.json_response(_scale(found) if sub == "scale" else found)
        sent = await request.json()
        version = sent["metadata"].get("resourceVersion", "") if "metadata" in sent else ""
        if version and version != found["metadata"]["resourceVersion"]:
            return _status(409, "the object has been modified")
        if (
            sent.get("metadata", {}).get("uid", found["metadata"]["uid"])
            != found["metadata"]["uid"]
        ):
            return _status(409, "another uid")
        changed = copy.deepcopy(found)
        if sub == "scale":
            changed["spec"]["replicas"] = sent["spec"]["replicas"]
        elif request.method == "PUT":
            changed = {**sent, "metadata": {**found["metadata"], **sent["metadata"]}}
        else:
            _merge(changed, {"status": sent["status"]} if sub == "status" else sent)
        made = await self.put(resource, changed)
        return web.json_response(_scale(made) if sub == "scale" else made)

    async def _watch(
        self, request: web.Request, collection: Collection, namespace: str
    ) -> web.StreamResponse:
        version = int(request.query["resourceVersion"])
        if version < self.oldest:
            return _status(410, "too old resource version")
        cut = self._cut
        response = web.StreamResponse()
        with contextlib.suppress(ConnectionResetError):  # the client has gone
            await self._stream(request, response, collection, namespace, cut, version)
        return response

    async def _stream(
        self, request: web.Request, response: web.StreamResponse, collection: Collection,
        namespace: str, cut: asyncio.Event, version: int,
    ) -> None:  # fmt: skip
        await response.prepare(request)
        while not cut.is_set() and not self.is_down:
            for at, kind, made in list(collection.events):
                if at <= version:
                    continue
                version = at
                if kind == "ERROR" or _matches(made, request, namespace):
                    line = json.dumps({"type": kind, "object": made}).encode() + b"\n"
                    await response.write(line[:20])  # a line may come in pieces
                    await response.write(line[20:])
            async with self._changed:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), 0.05)


def _discovery(resources: list[tuple[str, str, bool]]) -> Object:
    found = []
    for name, kind, has_scale in resources:
        found.append({"name": name, "kind": kind, "namespaced": True})
        if has_scale:
            found.append({"name": f"{name}/scale", "kind": "Scale", "namespaced": True})
    return {"kind": "APIResourceList", "resources": found}


def _scale(found: Object) -> Object:
    replicas = found["spec"].get("replicas", 1)
    labels = found["spec"].get("selector", {}).get("matchLabels", {})
    metadata = found["metadata"]
    return {
        "kind": "Scale",
        "metadata": {name: metadata[name] for name in ("name", "resourceVersion", "uid")},
        "spec": {"replicas": replicas} if replicas else {},  # as the real one does
        "status": {
            "replicas": found.get("status", {}).get("replicas", 0),
            "selector": ",".join(f"{k}={v}" for k, v in labels.items()),
        },
    }


def _matches(made: Object, request: web.Request, namespace: str) -> bool:
    metadata = made["metadata"]
    if namespace and metadata["namespace"] != namespace:
        return False
    labels = metadata.get("labels", {})
    for term in filter(None, request.query.get("labelSelector", "").split(",")):
        name, _, value = term.partition("=")
        if labels.get(name) != value:
            return False
    field_selector = request.query.get("fieldSelector", "")
    return not field_selector or field_selector == f"metadata.name={metadata['name']}"


def _merge(into: Object, patch: Object) -> None:
    """RFC 7386."""
    for name, value in patch.items():
        if value is None:
            into.pop(name, None)
        elif isinstance(value, dict):
            if not isinstance(into.get(name), dict):
                into[name] = {}
            _merge(into[name], value)
        else:
            into[name] = value


def _status(code: int, message: str) -> web.Response:
    body = {"kind": "Status", "code": code, "message": message}
    return web.json_response(body, status=code)


@contextlib.asynccontextmanager
async def fake_api() -> AsyncIterator[FakeApi]:
    api = FakeApi()
    async with served(api.handle, path="/{path:.*}") as api.url:
        try:
            yield api
        finally:
            api.cut()
