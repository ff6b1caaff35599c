"""Watches one endpoint: asks for its health, what it serves, and its numbers.

One task and one connection an endpoint; requests come one after the other. An endpoint is READY
only once it has told its models: nothing is ever listed under a name that was a guess because we
asked too early.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable

import structlog
import zmq

from shoal.clock import Clock
from shoal.errors import ConfigError

from ..core.types import EndpointStatus, EngineKind
from ..messages import EndpointRecord, KVBlocks
from ..settings.discovery import StaticEndpoint
from .address import parse_address, with_host
from .health import Health
from .introspection import (
    KVEventSource,
    Models,
    decode_kv_event_source,
    decode_models,
    engine_of_page,
)
from .kv_feed import KVFeed
from .kv_subscriber import KVSubscriber
from .probe import Answer, Probe, ProbeError
from .roster import Member
from .scrape import Numbers, PageReader
from .settings import MonitorSettings

ASK_AGAIN_S = 30.0
"""Between looks at /v1/models of a ready endpoint: adapters come and go."""
ASK_TIMEOUT_S = 5.0
SCRAPE_TIMEOUT_S = 2.0
NO_METRICS_S = 30.0
"""Until /metrics is tried again where there was none."""
MIN_PROBE_GAP_S = 0.25
"""A worker that closes every connection is not asked more often."""

log = structlog.get_logger(__name__)


class Monitor:
    """One endpoint as it is seen from here."""

    def __init__(
        self,
        member: Member,
        settings: MonitorSettings,
        clock: Clock,
        *,
        context: Callable[[], zmq.Context[zmq.Socket[bytes]]],
        on_change: Callable[[], None],
        on_numbers: Callable[[], None],
        on_kv: Callable[[KVBlocks], None],
    ) -> None:
        """`on_change`: another status, model list, engine or process; `on_numbers`: a scrape."""
        self.member = member
        self.health = Health(settings.health.failures)
        self._settings = settings
        self._clock = clock
        self._context = context
        self._on_change = on_change
        self._on_numbers = on_numbers
        self._on_kv = on_kv
        self._address = parse_address(member.endpoint.url)
        self._probe = self._new_probe()
        self._page_reader = PageReader()
        self._sleep: asyncio.Future[None] | None = None
        self._phase = zlib.crc32(member.endpoint_id.encode()) / 2**32
        # What the worker said.
        self._models: Models | None = None
        self._asked_at = float("-inf")
        self._engine: EngineKind | None = None
        self._numbers = Numbers()
        self._scraped_at: float | None = None
        self._scrape_due = float("-inf")
        self._num_processes = 0
        self._was_refused = False
        self._kv: KVSubscriber | None = None
        self._kv_told: KVEventSource | None = None
        self._has_told_kv = False
        self._probed_at = float("-inf")
        self._warned_of: str | None = None

    @property
    def status(self) -> EndpointStatus:
        """What discovery, operators and probes say together."""
        return EndpointStatus.DRAINING if self.member.is_draining else self.health.status

    @property
    def engine(self) -> EngineKind:
        told = self.member.endpoint.engine
        return EngineKind(told) if told != "auto" else self._engine or EngineKind.OPENAI

    @property
    def instance(self) -> str:
        """Names the process: by its start time if it tells, else by how many were seen here."""
        started = self._numbers.process_start_time
        return f"{started:.2f}" if started is not None else f"#{self._num_processes}"

    @property
    def kv_block_size(self) -> int:
        """By its events, else as the worker or its metrics say; 0: nobody follows its events."""
        if self._kv is None:
            return 0
        told = self._kv_told.block_size if self._kv_told is not None else 0
        return self._kv.feed.blocks.block_size or told or self._numbers.block_size or 0

    @property
    def kv(self) -> KVSubscriber | None:
        """Who follows its KV events; None: nobody."""
        return self._kv

    def record(self, now: float) -> EndpointRecord:
        """All of it, as the data plane hears it."""
        endpoint, numbers = self.member.endpoint, self._numbers
        models = self._models
        return EndpointRecord(
            endpoint_id=self.member.endpoint_id,
            url=endpoint.url,
            engine=self.engine.value,
            models=list(endpoint.models or (models.names if models else ())),
            weight=endpoint.weight,
            cost_per_hour=endpoint.cost_per_hour,
            labels=endpoint.labels,
            status=self.status.value,
            num_requests_running=numbers.num_requests_running or 0,
            num_requests_waiting=numbers.num_requests_waiting or 0,
            kv_cache_usage=numbers.kv_cache_usage or 0.0,
            num_cache_tokens=numbers.num_cache_tokens or 0,
            scraped_age_s=None if self._scraped_at is None else max(0.0, now - self._scraped_at),
            kv_block_size=self.kv_block_size,
            instance=self.instance,
            adapters=list(models.adapters) if models else [],
        )

    def configure(self, settings: MonitorSettings) -> None:
        """New settings, or another endpoint of the same address in `member`."""
        if (settings.api_key, settings.tls) != (self._settings.api_key, self._settings.tls):
            self._probe.close()
            self._settings = settings
            self._probe = self._new_probe()
        self._settings = settings
        self.health.configure(settings.health.failures)
        self._follow()
        self._wake()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            self._follow()
            # The first look is at once; the second, and with it all others, at a phase of its own.
            delay_s = await self._round()
            await self._sleep_for(min(delay_s, self._settings.health.interval_s * self._phase))
            while True:
                await self._sleep_for(await self._round())
        finally:
            self.close()

    def close(self) -> None:
        """Connections and subscriptions; again does no harm."""
        self._probe.close()
        self._unfollow()

    async def _round(self) -> float:
        """One look; returns seconds until the next."""
        health = self._settings.health
        self._probed_at = started = self._clock.now()
        reason = await self._look()
        now = self._clock.now()
        if reason is None:
            if now >= self._scrape_due or self.health.status is not EndpointStatus.READY:
                await self._scrape()  # before it is ready: routing begins with its numbers
            if self.health.succeeded():
                self._ready()
        elif self.health.failed(reason, now):
            log.warning("endpoint.unhealthy", endpoint=self.member.endpoint_id, reason=reason)
            self._on_change()
        else:
            self._warn_starting(reason)
        interval_s = self.health.next_probe_s(health.interval_s, now)
        return max(0.0, started + interval_s - self._clock.now())

    async def _look(self) -> str | None:
        """Health, and models when they are due; None: well, else why not."""
        health = self._settings.health
        try:
            answer = await self._probe.get(health.path, timeout_s=health.timeout_s)
        except ProbeError as error:
            self._was_refused = self._was_refused or error.is_refused
            return f"{health.path}: {error}"
        if not 200 <= answer.status < 300:
            hint = "; health.path may name another" if answer.status in (404, 405) else ""
            return f"{health.path} answered {answer.status}{hint}"
        is_new = self.health.status is not EndpointStatus.READY
        if is_new or self._clock.now() - self._asked_at >= ASK_AGAIN_S:
            return await self._ask(is_new=is_new)
        return None

    async def _ask(self, *, is_new: bool) -> str | None:
        """What it serves. Of a ready endpoint the old answer stands when there is no new one."""
        before = (self._models, self._engine)
        self._asked_at = self._clock.now()
        try:
            answer = await self._probe.get("/v1/models", timeout_s=ASK_TIMEOUT_S)
        except ProbeError as error:
            return self._without_models(f"/v1/models: {error}", is_new=is_new)
        if answer.status != 200:
            hint = "; set upstream.api_key" if answer.status in (401, 403) else ""
            return self._without_models(f"/v1/models answered {answer.status}{hint}", is_new=is_new)
        models = decode_models(answer.body)
        if models is None:
            return self._without_models("/v1/models lists no model", is_new=is_new)
        self._models = models
        self._engine = models.engine or self._engine or await self._engine_by_routes()
        if is_new:
            await self._ask_kv_events()
        elif before != (self._models, self._engine):
            self._on_change()
        return None

    def _without_models(self, reason: str, *, is_new: bool) -> str | None:
        """Why it cannot be ready, if that is so: the old list or the configured one will do."""
        return reason if is_new and not self.member.endpoint.models else None

    async def _engine_by_routes(self) -> EngineKind | None:
        """Of a worker whose model cards do not tell (an owner may be set by hand)."""
        if self.member.endpoint.engine != "auto":
            return None
        if await self._has("/server_info") or await self._has("/get_server_info"):
            return EngineKind.SGLANG
        try:
            page = await self._probe.get("/metrics", timeout_s=SCRAPE_TIMEOUT_S)
        except ProbeError:
            return None
        if page.status == 200 and (engine := engine_of_page(page.body)) is not None:
            return engine
        return EngineKind.VLLM if await self._has("/version") else None

    async def _has(self, path: str) -> bool:
        try:
            answer = await self._probe.get(path, timeout_s=ASK_TIMEOUT_S)
        except ProbeError:
            return False
        return answer.status == 200

    async def _ask_kv_events(self) -> None:
        """Where it publishes KV events, of a worker that knows the question."""
        self._kv_told = None
        if (
            self.engine is EngineKind.SHOAL
            and self._settings.follows_kv_events
            and self.member.endpoint.kv_events is None
        ):
            try:
                answer = await self._probe.get("/kv_event_sources", timeout_s=ASK_TIMEOUT_S)
            except ProbeError:
                return
            if answer.status == 200:
                self._kv_told = decode_kv_event_source(answer.body)

    def _ready(self) -> None:
        """It has just become ready."""
        if self._was_refused and self._numbers.process_start_time is None:
            self._new_process()  # nobody listened there: another process does now
        self._was_refused = False
        self._follow()
        log.info(
            "endpoint.ready",
            endpoint=self.member.endpoint_id,
            engine=self.engine.value,
            models=list(self._models.names[:8]) if self._models else [],
        )
        self._warned_of = None
        self._on_change()

    async def _scrape(self) -> None:
        interval_s = self._settings.health.scrape_interval_s
        try:
            answer = await self._probe.get("/metrics", timeout_s=SCRAPE_TIMEOUT_S)
        except ProbeError:
            answer = Answer(0, b"")
        now = self._clock.now()
        if answer.status != 200:
            self._scrape_due = now + (interval_s if answer.status == 0 else NO_METRICS_S)
            return
        self._scrape_due = now + interval_s * 0.9  # rounds have a rhythm of their own
        before = self._numbers
        numbers = self._page_reader.read(answer.body)
        self._scraped_at = now if numbers.num_requests_running is not None else None
        self._numbers = numbers
        if _is_another_process(before, numbers):
            self._new_process()
            self._on_change()
        self._on_numbers()

    def _new_process(self) -> None:
        """The process behind the address is another one."""
        self._num_processes += 1
        if self._kv is not None:
            self._kv.process_restarted()

    def _follow(self) -> None:
        """Subscribe to what is published now; stay with what is followed already."""
        endpoint = self.member.endpoint
        wanted = self._wanted_kv(endpoint) if self._settings.follows_kv_events else None
        if self._kv is not None and wanted == (self._kv.address, self._kv.replay_address):
            return
        self._unfollow()
        if self._has_told_kv:
            self._has_told_kv = False
            self._on_kv(KVBlocks(self.member.endpoint_id, cleared=True))
        if wanted is None:
            return
        address, replay_address = wanted
        feed = KVFeed(self.member.endpoint_id, can_replay=replay_address is not None)
        try:
            self._kv = KVSubscriber(
                self._context(),
                feed,
                address=address,
                replay_address=replay_address,
                on_blocks=self._tell_kv,
                clock=self._clock,
            )
        except ConfigError as error:
            log.warning("endpoint.kv_events", endpoint=self.member.endpoint_id, reason=str(error))

    def _wanted_kv(self, endpoint: StaticEndpoint) -> tuple[str, str | None] | None:
        host = self._address.host
        if endpoint.kv_events is not None:
            replay = endpoint.kv_events_replay
            return with_host(endpoint.kv_events, host), replay and with_host(replay, host)
        told = self._kv_told
        if told is None:
            return None
        replay = told.replay_endpoint
        return with_host(told.endpoint, host), replay and with_host(replay, host)

    def _unfollow(self) -> None:
        if self._kv is not None:
            self._kv.close()
            self._kv = None

    def _tell_kv(self, blocks: KVBlocks) -> None:
        self._has_told_kv = True
        self._on_kv(blocks)

    def _warn_starting(self, reason: str) -> None:
        """Once for each reason; nobody to connect to is what starting looks like."""
        if self.health.status is EndpointStatus.STARTING and reason != self._warned_of:
            self._warned_of = reason
            log.info("endpoint.starting", endpoint=self.member.endpoint_id, reason=reason)

    def _new_probe(self) -> Probe:
        return Probe(
            self._address,
            tls=self._settings.tls,
            api_key=self._settings.api_key,
            on_closed=self._closed,
        )

    def _closed(self) -> None:
        """The worker closed our idle connection: perhaps it has died, so look soon."""
        since_s = self._clock.now() - self._probed_at
        asyncio.get_running_loop().call_later(max(0.0, MIN_PROBE_GAP_S - since_s), self._wake)

    def _wake(self) -> None:
        if self._sleep is not None and not self._sleep.done():
            self._sleep.set_result(None)

    async def _sleep_for(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._sleep = loop.create_future()
        timer = loop.call_later(seconds, self._wake)
        try:
            await self._sleep
        finally:
            timer.cancel()


def _is_another_process(before: Numbers, now: Numbers) -> bool:
    if before.process_start_time is not None and now.process_start_time is not None:
        return before.process_start_time != now.process_start_time
    if before.generation_tokens is None or now.generation_tokens is None:
        return False
    return now.generation_tokens < before.generation_tokens
