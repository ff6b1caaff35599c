"""The `/scale` of one object: read it, and write it only as it was read."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import structlog

from shoal.errors import ClusterError, ScaleFailed

from .api import CONFLICT, Api

MAX_TRIES = 4
"""Status updates of a busy target change its version without touching replicas."""

log = structlog.get_logger(__name__)


class _Metadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    uid: str = ""


class _Spec(msgspec.Struct):
    replicas: int = 0  # the API leaves a zero out


class _Status(msgspec.Struct):
    replicas: int = 0
    selector: str = ""


class _Scale(msgspec.Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


_decoder = msgspec.json.Decoder(_Scale)


@dataclass(frozen=True, slots=True)
class Scale:
    """As the API server had it at `version`."""

    replicas: int
    """`spec.replicas`."""
    version: str
    uid: str
    created: int
    """`status.replicas`: those that exist, ready or not."""
    selector: str
    """Of the pods; empty: the kind does not tell."""


def decode(answer: bytes) -> Scale:
    found = _decoder.decode(answer)
    return Scale(
        replicas=found.spec.replicas,
        version=found.metadata.resource_version,
        uid=found.metadata.uid,
        created=found.status.replicas,
        selector=found.status.selector,
    )


class ScaleResource:
    """One object's."""

    def __init__(self, api: Api, *, collection: str, namespace: str, name: str) -> None:
        self._api = api
        self._path = f"{collection}/{name}/scale"
        self._namespace = namespace
        self._name = name

    async def read(self) -> Scale:
        """Raises ClusterError."""
        return decode(await self._api.get(self._path))

    async def write(self, replicas: int, seen: Scale) -> Scale:
        """Have so many instead of `seen.replicas`.

        Raises ScaleFailed, without having written, when somebody else has set another number since.
        """
        for _ in range(MAX_TRIES):
            try:
                return decode(await self._api.write("PUT", self._path, self._body(replicas, seen)))
            except ClusterError as error:
                if error.status != CONFLICT:
                    raise ScaleFailed(str(error)) from error
            seen = await self._again(seen)
        raise ScaleFailed(f"{self._path}: changed by others {MAX_TRIES} times while it was written")

    async def _again(self, seen: Scale) -> Scale:
        try:
            now = await self.read()
        except ClusterError as error:
            raise ScaleFailed(str(error)) from error
        if now.replicas != seen.replicas or now.uid != seen.uid:
            raise ScaleFailed(
                f"{self._path}: somebody set {now.replicas} instead of {seen.replicas} meanwhile;"
                " deciding again"
            )
        log.debug("kubernetes.scale_again", path=self._path, version=now.version)
        return now

    def _body(self, replicas: int, seen: Scale) -> dict[str, object]:
        return {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {
                "name": self._name,
                "namespace": self._namespace,
                "resourceVersion": seen.version,
            },
            "spec": {"replicas": replicas},
        }
