"""The Lease (coordination.k8s.io/v1) of the replicas of the autoscaler: one leads, the others wait.

`election.py` decides, here it is read and written.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from shoal.clock import Clock
from shoal.errors import ClusterError

from .api import CONFLICT, NOT_FOUND, Api
from .election import Election, LeaseRecord, Move, Timing

log = structlog.get_logger(__name__)


class BootClock:
    """CLOCK_BOOTTIME: never goes back, and goes on while the machine is suspended."""

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


class _Metadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Spec(msgspec.Struct, rename="camel"):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    renew_time: str | None = None
    acquire_time: str | None = None
    lease_transitions: int | None = None


class _Lease(msgspec.Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    spec: _Spec = msgspec.field(default_factory=_Spec)


_decoder = msgspec.json.Decoder(_Lease)


class Leadership:
    """Ours of one lease. `leads` is the fence of every write."""

    def __init__(
        self, api: Api, *, namespace: str, name: str, identity: str,
        timing: Timing | None = None, clock: Clock | None = None,
    ) -> None:  # fmt: skip
        self.identity = identity
        self._api = api
        self._namespace = namespace
        self._name = name
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._timing = timing or Timing()
        self._clock = clock or BootClock()
        self._election = Election(self.identity, self._timing)
        self._acquired = ""
        self.is_ready = False
        """The lease was read: we lead or stand by."""

    def leads(self) -> bool:
        """Whether a write may begin now."""
        return self._election.leads(self._clock.now())

    async def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have `work` run while we lead, again each time; when cancelled give the lease back.

        An error of `work` is raised.
        """
        working: asyncio.Task[None] | None = None
        try:
            while True:
                await self._try()
                if self.leads() and working is None:
                    log.info("leader.elected", identity=self.identity, lease=self._name)
                    working = asyncio.create_task(work())
                await self._wait(working)
                if working is not None and working.done():
                    working.result()
                    working = None
                if working is not None and not self.leads():
                    log.warning("leader.lost", identity=self.identity, lease=self._name)
                    await _end(working)
                    working = None
        finally:
            # First no more writes, then the lease: whoever takes it finds us done.
            if working is not None:
                await _end(working)
            await self._release()

    async def _wait(self, working: asyncio.Task[None] | None) -> None:
        """Until the next try; but not beyond the end of our time, and not when the work is over."""
        pause_s = self._timing.retry_s * random.uniform(0.8, 1.2)
        left_s = self._election.seconds_left(self._clock.now())
        if left_s is not None:
            pause_s = min(pause_s, max(left_s, 0.0))
        if working is None:
            await asyncio.sleep(pause_s)
        else:
            await asyncio.wait({working}, timeout=pause_s)

    async def _try(self) -> None:
        """Read the lease and do what there is to do. Trouble is logged: time does the rest."""
        try:
            async with asyncio.timeout(self._timing.renew_deadline_s / 2):
                record = await self._read()
                self.is_ready = True
                self._election.observe(record, self._clock.now())
                move = self._election.move(self._clock.now())
                if move is not Move.WAIT:
                    await self._write(move, record)
        except TimeoutError:
            log.warning("leader.lease_unreachable", lease=self._name, error="no answer in time")
        except ClusterError as error:
            if error.status != CONFLICT:  # somebody was faster
                log.warning("leader.lease_unreachable", lease=self._name, error=str(error))

    async def _read(self) -> LeaseRecord | None:
        try:
            return _record(await self._api.get(f"{self._collection}/{self._name}"))
        except ClusterError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    async def _write(self, move: Move, seen: LeaseRecord | None) -> None:
        began = self._clock.now()
        now = _micro_time()
        transitions = 0 if seen is None else seen.transitions + (move is Move.TAKE)
        if move is not Move.RENEW or not self._acquired:
            self._acquired = now
        spec = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self._timing.lease_s,
            "acquireTime": self._acquired,
            "renewTime": now,
            "leaseTransitions": transitions,
        }
        answer = await self._put(spec, seen)
        self._election.wrote(_record(answer), began, self._clock.now())

    async def _put(self, spec: dict[str, Any], seen: LeaseRecord | None) -> bytes:
        metadata = {"name": self._name, "namespace": self._namespace}
        body: dict[str, Any] = {
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": metadata, "spec": spec,
        }  # fmt: skip
        if seen is None:
            return await self._api.write("POST", self._collection, body, unfenced=True)
        metadata["resourceVersion"] = seen.version
        path = f"{self._collection}/{self._name}"
        return await self._api.write("PUT", path, body, unfenced=True)

    async def _release(self) -> None:
        """Leave it to the next at once. If that fails it waits for the lease to end."""
        led = self.leads()
        self._election.resign()
        if not led:
            return
        try:
            async with asyncio.timeout(self._timing.renew_deadline_s / 2):
                # Read anew: the answer to our last renewal may have been on its way.
                seen = await self._read()
                if seen is not None and seen.holder == self.identity:
                    await self._put(_given_back(seen), seen)
            log.info("leader.released", identity=self.identity, lease=self._name)
        except (ClusterError, TimeoutError) as error:
            log.warning("leader.not_released", lease=self._name, error=str(error) or "no answer")


def _given_back(seen: LeaseRecord) -> dict[str, Any]:
    now = _micro_time()
    return {
        "holderIdentity": "", "leaseDurationSeconds": 1, "acquireTime": now, "renewTime": now,
        "leaseTransitions": seen.transitions,
    }  # fmt: skip


def _record(answer: bytes) -> LeaseRecord:
    lease = _decoder.decode(answer)
    spec = lease.spec
    return LeaseRecord(
        holder=spec.holder_identity or "",
        renewed=spec.renew_time or "",
        transitions=spec.lease_transitions or 0,
        version=lease.metadata.resource_version,
        lease_s=float(spec.lease_duration_seconds or 0),
    )


def _micro_time() -> str:
    """For people: nobody compares it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
