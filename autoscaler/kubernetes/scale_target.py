"""A `Target` over the `/scale` of one object: Deployment, StatefulSet, LeaderWorkerSet, any other.

Its pods and the object itself are watched; `/scale` is read anew whenever the object has another
version than the scale we know. While a way down is under way its pods count as draining and as no
longer wanted: a decision that wants them again takes them back into use.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import structlog

from shoal.clock import Clock
from shoal.errors import ClusterError, ScaleFailed

from ..core.decision import Decision
from ..target import Replicas
from .api import METADATA_ONLY, Api
from .edits import Edit, Edits, ManagedFields
from .marks import Marks
from .pods import Pod, why_unschedulable
from .resources import Reference, Resources, Unscalable, reading
from .routers import Routers
from .scale import Scale, ScaleResource
from .start_ups import StartUps
from .watch import Watch
from .way_down import STALE_S, WayDown
from .workload import workload_of

log = structlog.get_logger(__name__)


class ScaledMetadata(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    generation: int = 0
    managed_fields: list[ManagedFields] = []


class Scaled(msgspec.Struct):
    """The object that has the replicas. Its spec may be of any kind, and is not read."""

    metadata: ScaledMetadata = msgspec.field(default_factory=ScaledMetadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How one target is scaled."""

    pods_per_replica: int = 1
    """Of a LeaderWorkerSet whose pods do not tell."""
    drain_timeout_s: float = 120.0
    reads_only: bool = False
    """Advisory mode: nothing is written, whatever is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Who wants to know."""

    on_edit: Callable[[Edit], None] = lambda edit: None
    """Somebody else set replicas."""
    on_trouble: Callable[[], None] = lambda: None
    """What was taken in could not be written after all: decide again."""


class ScaleTarget:
    """Use `open_target`; `run` is a task of whoever opened it."""

    def __init__(
        self, api: Api, reference: Reference, *, collection: str, resource: ScaleResource,
        scale: Scale, routers: Routers | None, options: Options, listeners: Listeners,
        clock: Clock,
    ) -> None:  # fmt: skip
        """`routers` None: pods are emptied by Kubernetes' own grace period alone."""
        self.reference = reference
        self.problem: ClusterError | None = None
        """Why `replicas` is None."""
        self.is_replaced = False
        """It was made anew, with other labels on its pods: open it again."""
        self._api = api
        self._path = f"{collection}/{reference.name}"
        self._resource = resource
        self._scale = scale
        self._decided_on = scale.replicas
        self._reads_only = options.reads_only
        self._listeners = listeners
        self._lock = asyncio.Lock()
        """Reads and writes of `/scale`, one after the other: `_edits` needs their order."""
        self._edits = Edits(scale.replicas)
        self._start_ups = StartUps()
        self._generation = 0
        self._changed = asyncio.Event()
        self._object = Watch(
            api, collection, Scaled, clock=clock, fields=f"metadata.name={reference.name}",
            metadata_only=True, on_change=self._on_object,
        )  # fmt: skip
        self._workload = workload_of(reference.kind, options.pods_per_replica)
        self._pods: Watch[Pod] | None = None
        if selector := self._workload.selector(reference.name, scale.selector):
            path = f"/api/v1/namespaces/{reference.namespace}/pods"
            self._pods = Watch(api, path, Pod, clock=clock, labels=selector)
        self._way_down: WayDown | None = None
        if self._pods is not None and routers is not None and not options.reads_only:
            self._way_down = WayDown(
                self, self._pods, self._workload, Marks(api, routers),
                timeout_s=options.drain_timeout_s, clock=clock, on_trouble=listeners.on_trouble,
            )  # fmt: skip

    async def run(self) -> None:
        """Follow the object and its pods, and carry out ways down, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._object.run())
            tasks.create_task(self._notice())
            if self._pods is not None:
                tasks.create_task(self._pods.run())
            if self._way_down is not None:
                tasks.create_task(self._way_down.run())

    async def replicas(self) -> Replicas | None:
        try:
            async with self._lock:
                scale = await self._read()
            found = self._counted(scale)
        except ClusterError as error:
            self.problem = error
            return None
        self.problem = None
        self._decided_on = scale.replicas
        return found

    async def scale(self, desired: int, decision: Decision) -> None:
        if self._reads_only:
            raise ScaleFailed(f"{self.reference}: advisory mode changes nothing")
        async with self._lock:
            try:
                now = await self._read()
            except ClusterError as error:
                raise ScaleFailed(str(error)) from error
            if now.replicas != self._decided_on:
                raise ScaleFailed(
                    f"{self.reference}: replicas were {self._decided_on} when it was decided and"
                    f" are {now.replicas} now; deciding again"
                )
            if self._way_down is not None:
                if desired < now.replicas and self._way_down.start(desired):
                    return
                self._way_down.stop()
            if desired != now.replicas:
                await self._write(desired, now)

    def why_pending(self) -> str:
        """The scheduler's words for a pod without a place; empty: all have one."""
        return "" if self._pods is None else why_unschedulable(self._pods.objects.values())

    # For the way down.

    @property
    def present(self) -> int:
        return self._scale.replicas

    async def lower(self, keep: int, still: Callable[[], bool]) -> bool:
        async with self._lock:
            if not still():
                return False
            await self._write(keep, self._scale)
            return True

    # Reading and writing.

    async def _read(self) -> Scale:
        """Under the lock. Raises ClusterError."""
        seen = self._object.objects.get((self.reference.namespace, self.reference.name))
        is_current = (
            self._object.is_open
            and seen is not None
            and seen.metadata.resource_version == self._scale.version
        )
        if is_current:
            return self._scale
        with reading(self.reference):
            found = await self._resource.read()
        if found.uid != self._scale.uid:
            self._begin_anew(found)
        self._scale = found
        edit = self._edits.saw(self._scale.replicas)
        if edit is not None and not self._reads_only:  # who only advises is no party to it
            if self._way_down is not None:
                self._way_down.stop()  # what it empties was chosen for another number
            self._listeners.on_edit(await self._who(edit))
        return self._scale

    def _begin_anew(self, found: Scale) -> None:
        """It was deleted and made anew. Raises Unscalable when we watch the wrong pods by now."""
        if found.selector != self._scale.selector:
            self.is_replaced = True
            raise Unscalable("TargetReplaced", f"{self.reference} has other pods than before")
        self._edits = Edits(found.replicas)
        if self._way_down is not None:
            self._way_down.stop()

    async def _write(self, desired: int, seen: Scale) -> None:
        """Under the lock. Raises ScaleFailed."""
        self._edits.sending(desired)
        self._scale = await self._resource.write(desired, seen)
        self._edits.wrote(desired)

    async def _who(self, edit: Edit) -> Edit:
        try:
            answer = await self._api.get(self._path, accept=METADATA_ONLY)
            return edit.by_one_of(msgspec.json.decode(answer, type=Scaled).metadata.managed_fields)
        except (ClusterError, msgspec.DecodeError):
            return edit

    def _counted(self, scale: Scale) -> Replicas:
        """Raises ClusterError when the pods are not known."""
        keep = None if self._way_down is None else self._way_down.keep
        wanted = scale.replicas if keep is None else keep
        if self._pods is None:
            ready = min(scale.created, wanted)
            return Replicas(desired=wanted, ready=ready, pending=wanted - ready)
        age = self._pods.age()
        if age is None or age > STALE_S:
            raise self._pods.problem or ClusterError("its pods are not listed yet")
        pods = list(self._pods.objects.values())
        given_up = frozenset() if self._way_down is None else self._way_down.given_up()
        found = self._workload.replicas(pods, wanted, given_up)
        start_up_s = self._start_ups.note(self._workload.starts(pods))
        return dataclasses.replace(found, start_up_s=start_up_s)

    # Following the object.

    def _on_object(self) -> None:
        seen = self._object.objects.get((self.reference.namespace, self.reference.name))
        generation = 0 if seen is None else seen.metadata.generation
        if generation != self._generation:  # its spec is another: somebody may have set replicas
            self._generation = generation
            self._changed.set()

    async def _notice(self) -> None:
        """Edits by others are told when they happen, not with the next decision."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                async with self._lock:
                    await self._read()
            except ClusterError as error:
                log.debug("kubernetes.not_read", target=str(self.reference), error=str(error))


async def open_target(
    api: Api, resources: Resources, reference: Reference, *, routers: Routers | None,
    options: Options, listeners: Listeners, clock: Clock,
) -> ScaleTarget:  # fmt: skip
    """Find it and read it once. Raises ClusterError; Unscalable when asking again is of no use."""
    collection = await resources.collection(reference)
    resource = ScaleResource(
        api, collection=collection, namespace=reference.namespace, name=reference.name
    )
    with reading(reference):
        scale = await resource.read()
    return ScaleTarget(
        api, reference, collection=collection, resource=resource, scale=scale, routers=routers,
        options=options, listeners=listeners, clock=clock,
    )  # fmt: skip
