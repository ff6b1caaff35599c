"""Where the API server has objects of a kind: apiVersion and kind -> path, by API discovery."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from shoal.errors import ClusterError

from .api import NOT_FOUND, Api


class Unscalable(ClusterError):
    """A target that cannot be scaled as it is; `reason` is a word for a condition."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Reference:
    """An object by name."""

    api_version: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@contextlib.contextmanager
def reading(reference: Reference) -> Iterator[None]:
    """While the object is read: that it is not there is Unscalable, and its user's to mend."""
    try:
        yield
    except ClusterError as error:
        if error.status != NOT_FOUND:
            raise
        raise Unscalable("TargetNotFound", f"{reference} is not there") from error


class _Resource(msgspec.Struct):
    name: str
    kind: str = ""
    namespaced: bool = False


class ResourceList(msgspec.Struct):
    """What discovery answers for one group and version."""

    resources: list[_Resource] = []


_lists = msgspec.json.Decoder(ResourceList)


def group_path(api_version: str) -> str:
    """Of `apps/v1` /apis/apps/v1, of `v1` /api/v1."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def plural_of(listed: ResourceList, api_version: str, kind: str) -> str:
    """The resource's name in paths. Raises Unscalable with what there is instead."""
    whole = [r for r in listed.resources if "/" not in r.name]
    found = next((r for r in whole if r.kind == kind), None)
    if found is None:
        kinds = ", ".join(sorted({r.kind for r in whole})) or "none"
        raise Unscalable("NoSuchKind", f"{api_version} has no kind {kind!r}; it has: {kinds}")
    if not found.namespaced:
        raise Unscalable("NotNamespaced", f"a {kind} has no namespace: it is not a workload")
    if not any(r.name == f"{found.name}/scale" for r in listed.resources):
        raise Unscalable("NoScale", f"a {kind} has no /scale: its number of replicas cannot be set")
    return found.name


class Resources:
    """Asked once for each kind; a kind that is not there yet is asked for again."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._paths: dict[tuple[str, str], str] = {}

    async def collection(self, reference: Reference) -> str:
        """The path of all objects of its kind in its namespace. Raises ClusterError."""
        key = reference.api_version, reference.kind
        if key not in self._paths:
            self._paths[key] = await self._plural(*key)
        group = group_path(reference.api_version)
        return f"{group}/namespaces/{reference.namespace}/{self._paths[key]}"

    async def _plural(self, api_version: str, kind: str) -> str:
        try:
            answer = await self._api.get(group_path(api_version))
        except ClusterError as error:
            if error.status != NOT_FOUND:
                raise
            raise Unscalable(
                "NoSuchKind",
                f"the cluster has no {api_version}: is the definition of {kind!r} installed?",
            ) from None
        return plural_of(_lists.decode(answer), api_version, kind)
