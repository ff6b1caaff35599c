"""A small client of the Kubernetes API for the tests: plain JSON, one class, no generated code.

Not the client that the controller uses, so that one's mistakes are not the other's.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

Json = dict[str, Any]

PREFIXES: Mapping[str, str] = {
    "namespaces": "/api/v1",
    "nodes": "/api/v1",
    "pods": "/api/v1",
    "events": "/api/v1",
    "configmaps": "/api/v1",
    "serviceaccounts": "/api/v1",
    "deployments": "/apis/apps/v1",
    "replicasets": "/apis/apps/v1",
    "statefulsets": "/apis/apps/v1",
    "controllerrevisions": "/apis/apps/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "clusterroles": "/apis/rbac.authorization.k8s.io/v1",
    "clusterrolebindings": "/apis/rbac.authorization.k8s.io/v1",
    "roles": "/apis/rbac.authorization.k8s.io/v1",
    "rolebindings": "/apis/rbac.authorization.k8s.io/v1",
    "customresourcedefinitions": "/apis/apiextensions.k8s.io/v1",
    "leaderworkersets": "/apis/leaderworkerset.x-k8s.io/v1",
    "inferenceservices": "/apis/serving.kserve.io/v1beta1",
    "scalingpolicies": "/apis/autoscaling.shoal.dev/v1alpha1",
}
PLURALS: Mapping[str, str] = {
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "Deployment": "deployments",
    "InferenceService": "inferenceservices",
    "LeaderWorkerSet": "leaderworkersets",
    "Namespace": "namespaces",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "ScalingPolicy": "scalingpolicies",
    "ServiceAccount": "serviceaccounts",
}
"""By kind, those of manifests."""
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"


class ApiError(Exception):
    """A Status with another code than 2xx; of a watch, too."""

    def __init__(self, code: int, status: Json) -> None:
        super().__init__(f"{code} {status.get('reason', '')}: {status.get('message', status)}")
        self.code = code
        self.status = status


def at(plural: str, namespace: str | None = None, name: str = "", sub: str = "") -> str:
    """The path of a collection, an object or its subresource."""
    path = PREFIXES[plural]
    if namespace is not None:
        path += f"/namespaces/{namespace}"
    return "/".join(part for part in (f"{path}/{plural}", name, sub) if part)


class Api:
    """One user's view of the cluster. Every call has a timeout and raises ApiError."""

    def __init__(self, url: str, token: str, tls: ssl.SSLContext) -> None:
        self._client = httpx.AsyncClient(
            base_url=url,
            verify=tls,
            trust_env=False,
            timeout=20.0,
            headers={"authorization": f"Bearer {token}"},
            limits=httpx.Limits(max_connections=200),
        )

    async def __aenter__(self) -> Api:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def get(self, path: str, **query: str) -> Json:
        return await self._call("GET", path, None, query)

    async def items(self, path: str, **query: str) -> list[Json]:
        found: list[Json] = (await self.get(path, **query))["items"]
        return found

    async def create(self, path: str, body: Json, **query: str) -> Json:
        return await self._call("POST", path, body, query)

    async def replace(self, path: str, body: Json, **query: str) -> Json:
        return await self._call("PUT", path, body, query)

    async def merge(self, path: str, body: Json, **query: str) -> Json:
        """A JSON merge patch: None removes."""
        return await self._call("PATCH", path, body, query, MERGE)

    async def apply(self, path: str, body: Json, manager: str, **query: str) -> Json:
        """Server-side apply."""
        return await self._call("PATCH", path, body, {"fieldManager": manager, **query}, APPLY)

    async def delete(self, path: str, *, grace_s: int | None = None) -> Json:
        body = None if grace_s is None else {"gracePeriodSeconds": grace_s}
        return await self._call("DELETE", path, body, {})

    async def scale(self, path: str, replicas: int) -> Json:
        """Write `spec.replicas` through the /scale of the object at `path`."""
        return await self.merge(f"{path}/scale", {"spec": {"replicas": replicas}})

    @asynccontextmanager
    async def watch(
        self, path: str, resource_version: str = "", **query: str
    ) -> AsyncIterator[AsyncIterator[tuple[str, Json]]]:
        """Events as (type, object), from after `resource_version` on; an ERROR raises ApiError."""
        params = {"watch": "1", "resourceVersion": resource_version, **query}
        timeout = httpx.Timeout(20.0, read=None)
        async with self._client.stream("GET", path, params=params, timeout=timeout) as response:
            if response.status_code != httpx.codes.OK:
                await response.aread()
                raise _error(response)

            async def events() -> AsyncIterator[tuple[str, Json]]:
                async for line in response.aiter_lines():
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise ApiError(event["object"].get("code", 0), event["object"])
                    yield event["type"], event["object"]

            yield events()

    async def _call(
        self, verb: str, path: str, body: Json | None, query: Mapping[str, str],
        content_type: str = "application/json",
    ) -> Json:  # fmt: skip
        content = None if body is None else json.dumps(body)
        headers = {"content-type": content_type}
        response = await self._client.request(
            verb, path, params=query, content=content, headers=headers
        )
        if not response.is_success:
            raise _error(response)
        answer: Json = response.json()
        return answer


def _error(response: httpx.Response) -> ApiError:
    try:
        status = response.json()
    except ValueError:
        status = {"message": response.text[:500]}
    return ApiError(response.status_code, status)


class Mirror:
    """A local copy of a collection: listed, then watched, and listed anew when the watch fails."""

    def __init__(self, api: Api, path: str, **query: str) -> None:
        self.objects: dict[str, Json] = {}
        self.changed = asyncio.Event()
        """Set with each change; whoever waits for it clears it."""
        self._api = api
        self._path = path
        self._query = query

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                listed = await self._api.get(self._path, **self._query)
                self.objects = {item["metadata"]["name"]: item for item in listed["items"]}
                self.changed.set()
                version = listed["metadata"]["resourceVersion"]
                async with self._api.watch(self._path, version, **self._query) as events:
                    async for kind, item in events:
                        if kind == "DELETED":
                            self.objects.pop(item["metadata"]["name"], None)
                        else:
                            self.objects[item["metadata"]["name"]] = item
                        self.changed.set()
            except (httpx.HTTPError, ApiError):
                await asyncio.sleep(0.1)  # the server is away; a test may have stopped it
