"""All endpoints of a router: found, checked, asked, scraped, and told as records.

Owns every task, connection and subscription below it; `run` is their life.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence

import structlog
import zmq

from shoal.clock import Clock
from shoal.errors import ConfigError, InvalidRequest, NotFound

from ..messages import EndpointRecord, KVBlocks
from ..settings.config import RouterConfig
from ..settings.discovery import DiscoveryConfig, StaticEndpoint
from .detail import EndpointDetail, detail
from .kv_subscriber import make_context
from .monitor import Monitor
from .roster import Found, Member, Roster
from .settings import monitor_settings
from .sources.dns import DNSNames
from .sources.file import FileSource
from .sources.kubernetes import EndpointSlices
from .sources.source import Source, found, normalised

COALESCE_S = 0.02
"""Changes are told at most so often."""
LEAVING_TICK_S = 0.25
RESTART_S = 1.0
"""Before a task of ours that failed by a fault of ours is started again."""

log = structlog.get_logger(__name__)


class Fleet:
    """What discovery found, with its state; tells when something has changed.

    Not thread-safe: every method is called on the loop that `run` runs on.
    """

    def __init__(
        self,
        config: RouterConfig,
        on_change: Callable[[list[EndpointRecord]], None],
        on_kv: Callable[[KVBlocks], None],
        clock: Clock,
        *,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """`on_change` gets all endpoints: within 20 ms of a change of status, models or membership,
        and once a scrape interval for numbers alone. `on_kv` gets changes of prefix caches as they
        come; those of a new process, or of the first block size, follow the `on_change` that tells
        of it. Both must return at once.

        Raises ConfigError when an address or a key is wrong.
        """
        self._config = config
        self._on_change = on_change
        self._on_kv = on_kv
        self._clock = clock
        self._environ = environ
        self._settings = monitor_settings(config, environ)
        self._roster = Roster()
        self._monitors: dict[str, Monitor] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """Of monitors, by endpoint_id."""
        self._static = found(config.discovery.static)
        self._sources = _sources(config.discovery)
        self._source_tasks: dict[str, asyncio.Task[None]] = {}
        self._listings: dict[str, Sequence[Found]] = {}
        """What each source listed last."""
        self._by_admin: dict[str, Found] = {}
        """By URL."""
        self._in_flight: Mapping[str, int] = {}
        self._group: asyncio.TaskGroup | None = None
        self._telling: asyncio.TimerHandle | None = None
        self._numbers_are_new = False
        self._told_identities: dict[str, _Identity] = {}
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None

    async def run(self) -> None:
        """Until cancelled; once."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._start_sources()
                self._reconcile()
                for endpoint_id in self._monitors:
                    self._watch(endpoint_id)
                self._changed()
                group.create_task(self._tell_numbers())
                await self._watch_leaving()
        finally:
            self._group = None
            if self._telling is not None:
                self._telling.cancel()
            if self._context is not None:
                self._context.destroy(linger=0)

    def update(self, config: RouterConfig) -> None:
        """A new configuration: only what differs is started, stopped or changed.

        Raises ConfigError when it is wrong, and then nothing has changed.
        """
        static = found(config.discovery.static)
        sources = _sources(config.discovery)
        settings = monitor_settings(config, self._environ, self._settings)
        self._config, self._static, self._settings = config, static, settings
        for name, (specification, _) in self._sources.items():
            if name not in sources or sources[name][0] != specification:
                self._stop_source(name)
        self._sources = sources
        self._start_sources()
        for monitor in self._monitors.values():
            monitor.configure(settings)
        self._reconcile()
        self._changed()

    def endpoints(self) -> list[EndpointRecord]:
        """All endpoints now."""
        now = self._clock.now()
        return [monitor.record(now) for monitor in self._monitors.values()]

    def details(self) -> list[EndpointDetail]:
        """The same for people: where each comes from, what its last probe said, its KV events."""
        return [detail(monitor) for monitor in self._monitors.values()]

    def kv_blocks(self) -> list[KVBlocks]:
        """All prefix caches now, for a data-plane process that has just started: one message an
        endpoint whose events are followed, `cleared` first."""
        return [
            monitor.kv.feed.blocks.snapshot()
            for monitor in self._monitors.values()
            if monitor.kv is not None
        ]

    def add(self, endpoint: StaticEndpoint) -> str:
        """Add one until it is removed or the process ends; returns its id.

        The same URL again replaces what was said of it. Raises InvalidRequest when it is wrong.
        """
        try:
            endpoint = normalised(endpoint)
        except ConfigError as error:
            raise InvalidRequest(str(error), param="url") from None
        self._by_admin[endpoint.url] = Found(endpoint)
        self._roster.welcome(endpoint.url)
        self._reconcile()
        endpoint_id = next(
            member.endpoint_id
            for member in self._roster.members.values()
            if member.endpoint.url == endpoint.url and member.leaving_since is None
        )
        self._drain(endpoint_id, is_drained=False)
        return endpoint_id

    def drain(self, endpoint_id: str) -> None:
        """Nothing new goes there; it stays listed until `undrain` or `remove`. Raises NotFound."""
        self._drain(endpoint_id, is_drained=True)

    def undrain(self, endpoint_id: str) -> None:
        """Takes back `drain`. Raises NotFound."""
        self._drain(endpoint_id, is_drained=False)

    def remove(self, endpoint_id: str) -> None:
        """Drain, then forget. A source that still lists it does not bring it back; one that lists
        it again does. Raises NotFound."""
        member = self._roster.remove(endpoint_id, self._clock.now())
        if member is None:
            raise _not_found(endpoint_id)
        self._by_admin.pop(member.endpoint.url, None)
        self._reconcile()
        log.info("endpoint.removed", endpoint=endpoint_id, by="admin")
        self._changed()

    def note_in_flight(self, in_flight: Mapping[str, int]) -> None:
        """Requests of all data-plane processes by endpoint_id; those left out have none."""
        self._in_flight = dict(in_flight)

    def _drain(self, endpoint_id: str, *, is_drained: bool) -> None:
        if not self._roster.drain(endpoint_id, is_drained=is_drained):
            raise _not_found(endpoint_id)
        log.info("endpoint.drained" if is_drained else "endpoint.undrained", endpoint=endpoint_id)
        self._changed()

    # Membership.

    def _start_sources(self) -> None:
        if self._group is None:
            return
        for name, (_, source) in self._sources.items():
            if name not in self._source_tasks:
                publish = functools.partial(self._listed, name)
                work = _kept_running(functools.partial(source.run, publish), name)
                self._source_tasks[name] = self._group.create_task(work)

    def _stop_source(self, name: str) -> None:
        if (task := self._source_tasks.pop(name, None)) is not None:
            task.cancel()
        self._listings.pop(name, None)

    def _listed(self, name: str, listed: Sequence[Found]) -> None:
        """What a source lists now."""
        self._listings[name] = listed
        log.info("discovery.listed", source=name, endpoints=len(listed))
        self._reconcile()

    def _reconcile(self) -> None:
        """Make the members those that the sources list now."""
        listings: dict[str, Sequence[Found]] = {"static": self._static}
        for name in self._sources:
            listings[name] = self._listings.get(name, ())
        listings["admin"] = tuple(self._by_admin.values())
        changes = self._roster.apply(listings, self._clock.now())
        for url, winner, loser in changes.duplicates:
            log.warning("discovery.duplicate", url=url, used=winner, ignored=loser)
        for member in changes.added:
            self._monitor(member)
        for member in changes.changed:
            self._monitors[member.endpoint_id].configure(self._settings)
        if not changes.is_empty:
            self._changed()

    def _monitor(self, member: Member) -> None:
        monitor = Monitor(
            member,
            self._settings,
            self._clock,
            context=self._zmq_context,
            on_change=self._changed,
            on_numbers=self._has_numbers,
            on_kv=self._kv_changed,
        )
        self._monitors[member.endpoint_id] = monitor
        self._watch(member.endpoint_id)

    def _watch(self, endpoint_id: str) -> None:
        """Start its task, once, if this is running."""
        if self._group is not None and endpoint_id not in self._tasks:
            work = _kept_running(self._monitors[endpoint_id].run, endpoint_id)
            self._tasks[endpoint_id] = self._group.create_task(work)

    def _zmq_context(self) -> zmq.Context[zmq.Socket[bytes]]:
        """Made for the first worker that publishes KV events."""
        if self._context is None:
            self._context = make_context()
        return self._context

    async def _watch_leaving(self) -> None:
        """Takes out those that have finished."""
        while True:
            await asyncio.sleep(LEAVING_TICK_S)
            gone = self._roster.gone(
                self._in_flight, self._clock.now(), timeout_s=self._config.drain_timeout_s
            )
            for member in gone:
                self._tasks.pop(member.endpoint_id).cancel()
                self._monitors.pop(member.endpoint_id).close()
                self._told_identities.pop(member.endpoint_id, None)
                log.info("endpoint.gone", endpoint=member.endpoint_id)
            if gone:
                self._changed()

    # Telling.

    def _changed(self) -> None:
        if self._telling is None and self._group is not None:
            self._telling = asyncio.get_running_loop().call_later(COALESCE_S, self._tell)

    def _has_numbers(self) -> None:
        self._numbers_are_new = True

    async def _tell_numbers(self) -> None:
        while True:
            await asyncio.sleep(self._settings.health.scrape_interval_s)
            if self._numbers_are_new:
                self._changed()

    def _tell(self) -> None:
        self._telling = None
        self._numbers_are_new = False
        self._on_change(self.endpoints())
        for endpoint_id, monitor in self._monitors.items():
            identity = _identity(monitor)
            if identity != self._told_identities.get(endpoint_id):
                self._told_identities[endpoint_id] = identity
                if monitor.kv is not None:
                    self._on_kv(monitor.kv.feed.blocks.snapshot())

    def _kv_changed(self, blocks: KVBlocks) -> None:
        """Pass on what is heard by those who know the endpoint as it is now. To the others it would
        be lost: they hear of the endpoint first, and then of all its blocks."""
        endpoint_id = blocks.endpoint_id
        if self._told_identities.get(endpoint_id) == _identity(self._monitors[endpoint_id]):
            self._on_kv(blocks)
            return
        if blocks.cleared:
            self._on_kv(KVBlocks(endpoint_id, cleared=True))
        self._changed()


_Identity = tuple[str, int]
"""Process and block size: when either changes, listeners forget what they know of the cache."""


def _identity(monitor: Monitor) -> _Identity:
    return monitor.instance, monitor.kv_block_size


def _sources(config: DiscoveryConfig) -> dict[str, tuple[object, Source]]:
    """Sources other than the static list, in order of precedence, with what each was made from.

    Raises ConfigError when one cannot be.
    """
    made: list[tuple[object, Source]] = []
    if config.file is not None:
        made.append((config.file, FileSource(config.file)))
    made.extend((settings, DNSNames(settings)) for settings in config.dns)
    made.extend((settings, EndpointSlices(settings)) for settings in config.kubernetes)
    sources: dict[str, tuple[object, Source]] = {}
    for specification, source in made:
        name, number = source.name, 1
        while name in sources:
            number += 1
            name = f"{source.name} ({number})"
        sources[name] = specification, source
    return sources


async def _kept_running(work: Callable[[], Coroutine[None, None, None]], what: str) -> None:
    """A fault in one source or monitor is told, and ends nothing else."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("fleet.task_failed", task=what)
        await asyncio.sleep(RESTART_S)


def _not_found(endpoint_id: str) -> NotFound:
    return NotFound(
        f"There is no endpoint {endpoint_id!r}.", param="endpoint_id", code="endpoint_not_found"
    )
