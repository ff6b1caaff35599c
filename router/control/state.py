"""The state of a router: configuration, fleet, processes, and what people may do to them.

Everything runs on one event loop. The admin API, signals and watched files call the methods below.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from socket import socket
from typing import Any

import msgspec
import structlog

from shoal.clock import Clock
from shoal.errors import ConfigError, InvalidRequest

from ..fleet.fleet import Fleet
from ..messages import Configure, EndpointRecord, FleetUpdate, FromState, KVBlocks, PeerDelta
from ..settings.config import RouterConfig
from ..settings.discovery import StaticEndpoint
from ..telemetry.exposition import render
from ..telemetry.snapshot import Snapshot, endpoint_statuses, merge
from .child import Timing
from .children import Children
from .hub import Hub
from .load import Loaded, Source, load
from .redact import redacted
from .reload import ReloadResult, keep_fixed
from .totals import Totals

PROXY_COMMAND = (sys.executable, "-m", "shoal.router.proxy")
_NOTE_IN_FLIGHT_S = 0.1
"""At most so often the fleet hears how many requests its endpoints have: for drains."""
_log = structlog.get_logger(__name__)


class State:
    """Use: `start`, then `run` until cancelled; `drain` before that for a peaceful end."""

    def __init__(
        self,
        source: Source,
        loaded: Loaded,
        listeners: Sequence[Sequence[socket]],
        *,
        clock: Clock,
        command: Sequence[str] = PROXY_COMMAND,
        timing: Timing | None = None,
    ) -> None:
        """Raises ConfigError when the fleet cannot be as configured."""
        self.loaded = loaded
        self.is_draining = False
        self._source = source
        self._clock = clock
        # Asked now: a drain closes them.
        self._api_port: int = listeners[0][0].getsockname()[1] if listeners else 0
        self._hub = Hub()
        self._totals = Totals()
        self._reloading = asyncio.Lock()
        self._noting: asyncio.TimerHandle | None = None
        self._held: dict[str, int] = {}
        self._held_changed = asyncio.Event()
        """Set, and replaced, when `_held` is another."""
        self._fleet_settled = asyncio.Event()
        self.fleet = Fleet(loaded.config, self._on_fleet, self._on_kv, clock)
        self.children = Children(
            command,
            listeners,
            greet=self._greet,
            on_delta=self._on_delta,
            on_metrics=self._totals.note,
            on_end=self._on_end,
            timing=timing,
        )

    async def start(self) -> None:
        """Until all data-plane processes accept. Raises ChildFailed."""
        await self.children.start()

    async def run(self) -> None:
        """Until cancelled; then the data-plane processes are killed."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.fleet.run())
                group.create_task(self.children.run())
        finally:
            if self._noting is not None:
                self._noting.cancel()

    async def drain(self, timeout_s: float) -> None:
        """Let all requests end; returns when they have, or the time is over."""
        self.is_draining = True
        await self.children.drain(timeout_s)

    async def fleet_settled(self, timeout_s: float) -> None:
        """Wait until no endpoint is in doubt any more, or the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._fleet_settled.wait()
        except TimeoutError:
            return

    # What people do.

    async def reload(self) -> ReloadResult:
        """Read all files again. Raises ConfigError, and then nothing has changed."""
        async with self._reloading:
            try:
                loaded = await asyncio.to_thread(load, self._source)
                config, needs_restart = keep_fixed(self.loaded.config, loaded.config)
                loaded = replace(loaded, config=config)
                self.fleet.update(config)
            except ConfigError as error:
                _log.error("config.refused", error=str(error), kept="the one before")
                raise
            changed = loaded != self.loaded
            self.loaded = loaded
            # Also when nothing changed: certificates and log files are opened again.
            self.children.broadcast(self._configure())
        for setting in needs_restart:
            _log.warning("config.needs_restart", setting=setting)
        _log.info("config.loaded", changed=changed)
        return ReloadResult(changed=changed, needs_restart=needs_restart)

    async def restart(self) -> int:
        """Replace all data-plane processes; returns how many. Raises EngineUnavailable."""
        return await self.children.restart(self.loaded.config.handover_timeout_s)

    def add_endpoint(self, body: bytes) -> str:
        """From JSON like an entry of `discovery.static`; its id. Raises InvalidRequest."""
        try:
            endpoint = msgspec.json.decode(body, type=StaticEndpoint)
        except msgspec.MsgspecError as error:
            raise InvalidRequest(f"Not an endpoint: {error}") from None
        return self.fleet.add(endpoint)

    # What people ask.

    @property
    def num_ready(self) -> int:
        """Data-plane processes that accept."""
        return self.children.num_ready

    def admin_keys(self) -> tuple[str, ...]:
        """Of the admin API; empty: it is open to this machine."""
        return self.loaded.admin_keys

    @property
    def settings(self) -> RouterConfig:
        """In use now."""
        return self.loaded.config

    @property
    def api_port(self) -> int:
        """Of the API, also where the configuration says "any"."""
        return self._api_port

    def endpoints(self) -> list[dict[str, Any]]:
        """All endpoints: what they are, where from, why their status, and what they have to do."""
        in_flight = self._hub.in_flight()
        records = {record.endpoint_id: record for record in self.fleet.endpoints()}
        return [
            {
                **msgspec.structs.asdict(records[detail.endpoint_id]),
                **msgspec.structs.asdict(detail),
                "in_flight": in_flight.get(detail.endpoint_id, 0),
            }
            for detail in self.fleet.details()
            if detail.endpoint_id in records
        ]

    def held(self) -> dict[str, int]:
        """Requests held for models without an endpoint."""
        return self._held

    async def wait_held(self, model: str, timeout_s: float) -> dict[str, int]:
        """The same, once there are some for `model`, or when the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self._held.get(model):
                    await self._held_changed.wait()
        return self._held

    def config(self) -> dict[str, Any]:
        """Without secrets."""
        return redacted(self.loaded.config)

    async def metrics(self, only: Collection[str] = ()) -> str:
        """In Prometheus' text format, of all processes together; of all families, or of some."""
        return render(await self.snapshot(), only)

    async def snapshot(self) -> Snapshot:
        """The same as plain data."""
        reports = await self.children.ask_all("metrics")
        living = self.children.pids()
        for process, body in reports.items():
            if process in living:
                self._totals.note(process, body)
        statuses = endpoint_statuses(self.fleet.endpoints())
        return merge((self._totals.merged(), statuses))

    async def decisions(self, limit: int) -> list[dict[str, Any]]:
        """The newest decisions of all processes, the newest first."""
        reports = await self.children.ask_all("decisions", limit=limit)
        merged = [
            {**decision, "process": process}
            for process, decisions in reports.items()
            for decision in decisions
        ]
        merged.sort(key=lambda decision: float(decision["ts"]), reverse=True)
        return merged[:limit]

    async def connections(self) -> list[dict[str, Any]]:
        """What each process says of its connections."""
        pids = self.children.pids()
        reports = await self.children.ask_all("connections")
        return [
            {**body, "process": process, "pid": pids.get(process)}
            for process, body in sorted(reports.items())
        ]

    # What happens.

    def _greet(self, process: int) -> Iterator[FromState]:
        yield self._configure()
        yield FleetUpdate(self.fleet.endpoints())
        yield from self.fleet.kv_blocks()
        yield from self._hub.joined(process, self._clock.now())

    def _configure(self) -> Configure:
        return Configure(config=self.loaded.config, keys=self.loaded.keys)

    def _on_fleet(self, endpoints: list[EndpointRecord]) -> None:
        self.children.broadcast(FleetUpdate(endpoints))
        if all(record.status != "starting" for record in endpoints):
            self._fleet_settled.set()

    def _on_kv(self, blocks: KVBlocks) -> None:
        self.children.broadcast(blocks)

    def _on_delta(self, process: int, delta: PeerDelta) -> None:
        delta.process = process
        self._hub.take(process, delta, self._clock.now())
        self._note_held()
        self.children.broadcast(delta, but=process)
        self._note_in_flight_soon()

    def _on_end(self, process: int) -> None:
        self._totals.left(process)
        if (farewell := self._hub.left(process)) is not None:
            self.children.broadcast(farewell)
            self._note_in_flight_soon()
        self._note_held()

    def _note_held(self) -> None:
        held = self._hub.held()
        if held != self._held:
            self._held = held
            self._held_changed.set()
            self._held_changed = asyncio.Event()

    def _note_in_flight_soon(self) -> None:
        if self._noting is None:
            loop = asyncio.get_running_loop()
            self._noting = loop.call_later(_NOTE_IN_FLIGHT_S, self._note_in_flight)

    def _note_in_flight(self) -> None:
        self._noting = None
        self.fleet.note_in_flight(self._hub.in_flight())
