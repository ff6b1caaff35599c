"""What all connections of a data-plane process share: configuration, fleet, decisions, limits.

The hub of the data plane: connections bring requests here, `Dispatcher` sends them on, `Records`
writes down how they ended. Rules live in the core; here they are called with the right values.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import re
import time
from collections.abc import Mapping
from typing import Final

import structlog

from ..access.authenticator import Authenticator
from ..access.jwt import SigningKeyUnknown
from ..access.principal import Principal
from ..access.tls import ReloadableContext, client_context
from ..access.worker_key import worker_key
from ..core.circuit_breaker import FailureKind
from ..core.model_table import Arm, ModelEntry, ModelTable, Route
from ..core.rate_limit import Limits, RateLimiter, ratelimit_lines
from ..messages import EndpointRecord
from ..prefix_hash import root_hash
from ..request_fields import RequestFields
from ..settings.config import RouterConfig
from ..settings.listen import UpstreamConfig
from ..settings.routing import ModelConfig
from ..telemetry.metrics import RouterMetrics
from ..telemetry.traceparent import TraceContext, child_traceparent
from . import admission as admissions
from .admission import Admission
from .attempt import Attempt, Failure
from .client import ClientConnection
from .dispatcher import Dispatcher
from .exact import ExactPrompts
from .exchange import Exchange
from .experience import Experience
from .fleet_view import FleetEntry, FleetView
from .headers import Headers, find
from .outbox import Outbox
from .pool import Address, Pool
from .records import Records
from .request_reader import Request

_log = structlog.get_logger(__name__)
_GOOD_REQUEST_ID: Final = re.compile(rb"[\w.:/+=-]{1,128}", re.ASCII)
_MAX_ROOTS: Final = 1024
IDLE_GRACE_S: Final = 1.0
"""A client that is about to send on an idle connection still gets its answer, the last there."""
_PREFIX_POLICIES: Final = frozenset({"cost", "prefix", "prefix_exact"})
_BLAME: Final = {
    Failure.CONNECT: FailureKind.CONNECT,
    Failure.LOST: FailureKind.RESET,
    Failure.TIMEOUT: FailureKind.TIMEOUT,
    Failure.STATUS: FailureKind.STATUS,
}


class Gateway:
    """One per data-plane process. `configure` before anything else; again on each reload."""

    def __init__(self, *, process: int = 0) -> None:
        self.process = process
        self.now = asyncio.get_running_loop().time
        self.config = RouterConfig()
        self.bounds = self.config.bounds
        self.outbox = Outbox()
        self.metrics = RouterMetrics()
        self.records = Records(self)
        self.connections: set[ClientConnection] = set()
        self.attempts: set[Attempt] = set()
        self.is_draining = False
        self.limiter = RateLimiter()
        self.experience = Experience(self)
        self.fleet = FleetView(
            make_pool=self._make_pool,
            breaker_state=self.experience.breaker_state,
            concurrency_limit=self.experience.concurrency_limit,
        )
        self.dispatcher = Dispatcher(self)
        self.exact = ExactPrompts(self)
        self.authenticator = Authenticator()
        self.generation = 0
        """Of the configuration."""
        self.keys_last = True
        """Whether a principal stays one until the next configuration; tokens expire."""
        self.counts_tokens = False
        """Whether token counts are wanted of streams too whose clients did not ask for them."""
        self._session_headers: list[bytes] = []
        self._table = ModelTable(())
        self._roots: dict[str, int] = {}
        self.server_tls: ReloadableContext | None = None
        """Of the listening sockets, whose owner puts it here."""
        self._upstream_tls: ReloadableContext | None = None
        self._worker_line = b""
        self._keeps_credentials = True
        self._reconfigured = asyncio.Event()
        self._rng = random.Random()
        self._id_prefix = b"%b-" % os.urandom(6).hex().encode()
        self._ids = itertools.count(1)
        self.routed: list[tuple[str, list[int]]] = []
        """(endpoint_id, prefix hashes) since siblings were last told."""

    # Configuration and fleet.

    def configure(self, config: RouterConfig, keys: bytes) -> None:
        """Take a configuration; what was learnt and what is under way stays. Raises ConfigError."""
        authenticator = Authenticator.from_config(config.auth, keys, limits=config.limits)
        table = ModelTable([_entry(model) for model in config.models])
        key = worker_key(config.upstream.api_key, os.environ)
        old, self.config, self.bounds = self.config, config, config.bounds
        self.authenticator, self._table = authenticator, table
        is_open = config.auth.keys_file is None and config.auth.jwt is None
        self._reconfigured.set()
        self.generation += 1
        self.keys_last = config.auth.jwt is None
        limits, telemetry = config.limits, config.telemetry
        self.counts_tokens = bool(
            not is_open or limits.tokens_per_minute or telemetry.usage_log or telemetry.prices
        )
        self._session_headers = [
            name.lower().encode("latin-1") for name in config.routing.session_headers
        ]
        self._worker_line = f"authorization: Bearer {key}\r\n".encode() if key else b""
        self._keeps_credentials = is_open and not key
        self._renew_tls(old.upstream, config.upstream)
        self.experience.configure(old, config)
        for endpoint_id in self.fleet.entries:
            self.fleet.refresh(endpoint_id)
        self.dispatcher.configure(config)
        self.metrics.know_models(table.names())
        self.records.configure(config.telemetry)

    def _renew_tls(self, old: UpstreamConfig, new: UpstreamConfig) -> None:
        """Read certificates again; connections that are open stay as they are."""
        if self.server_tls is not None:
            self.server_tls.reload()
        if self._upstream_tls is not None and new == old:
            self._upstream_tls.reload()
            return
        # The system's certificates take 30 to 100 ms, in which nothing else is done: they are read
        # when there is a worker to check with them.
        if self._upstream_tls is not None or new.ca or new.client_certificate:
            self._upstream_tls = client_context(new)
        for entry in self.fleet.entries.values():
            entry.pool.configure(new, tls=self._upstream_tls)

    def take_fleet(self, records: list[EndpointRecord]) -> None:
        """The fleet as it is now."""
        now = self.now()
        for endpoint_id in self.fleet.update(records, now):
            self.experience.forget(endpoint_id)
            self.metrics.forget_endpoint(endpoint_id)
        for record in records:
            self.experience.take_record(record, now)
        self.metrics.know_models(self.fleet.models)
        self.experience.refresh_breakers(now)
        self.dispatcher.wake()

    def _make_pool(self, url: str) -> Pool:
        address, upstream = Address(url), self.config.upstream
        if address.is_tls and self._upstream_tls is None:
            self._upstream_tls = client_context(upstream)
        return Pool(address, upstream, self.outbox, tls=self._upstream_tls)

    def tick(self, now: float) -> None:
        """Four times a second."""
        self.experience.eject_outliers(now)
        self.experience.refresh_breakers(now)
        self.dispatcher.expire(now)
        self.experience.ttft.refresh(now)

    # Connections.

    def admit_connection(self, connection: ClientConnection) -> bool:
        if len(self.connections) >= self.bounds.max_connections:
            return False
        self.connections.add(connection)
        self.metrics.connections += 1
        return True

    def close_idle(self) -> None:
        """While draining: close connections on which nothing has come for a while."""
        oldest = self.now() + self.bounds.idle_timeout_s - IDLE_GRACE_S
        for connection in list(self.connections):
            if connection.is_idle and connection.deadline < oldest:
                connection.close()

    def identify(self, request: Request) -> tuple[bytes, TraceContext | None]:
        """Id and trace of a request: the client's, if they are harmless, or new ones.

        Without a client's trace one begins here only if spans are exported.
        """
        wanted = request.request_id
        if wanted is None or not _GOOD_REQUEST_ID.fullmatch(wanted):
            wanted = b"%b%x" % (self._id_prefix, next(self._ids))
        telemetry = self.config.telemetry
        if request.traceparent is None and telemetry.otlp_endpoint is None:
            return wanted, None
        return wanted, child_traceparent(request.traceparent, telemetry.trace_ratio, self._rng)

    # Admission.

    async def keep_keys_fresh(self) -> None:
        """Run the authenticator of the time; for ever."""
        while True:
            running = self.authenticator
            work = asyncio.get_running_loop().create_task(running.run())
            try:
                await self._reconfigured.wait()
                self._reconfigured.clear()
            finally:
                work.cancel()

    def admit(self, exchange: Exchange) -> None:
        """Check a request and send it on its way. Raises RequestError."""
        try:
            admission = admissions.admit(self, exchange)
        except SigningKeyUnknown:
            exchange.run(lambda: self._admit_later(exchange))
            return
        if admission is not None:
            self._go(exchange, admission)

    async def _admit_later(self, exchange: Exchange) -> None:
        """Once more, with the identity provider's latest keys."""
        await self.authenticator.refresh_signing_keys()
        admission = admissions.admit(self, exchange)
        if admission is not None:
            self._go(exchange, admission)

    def _go(self, exchange: Exchange, admission: Admission) -> None:
        exchange.admission = admission
        self.metrics.model(admission.served_model).arrivals += 1
        if self.experience.exact_index.block_sizes:
            entry = self.exact.applies(admission)
            if entry is not None:
                exchange.run(lambda: self._go_exactly(exchange, admission, entry))
                return
        exchange.dispatch()

    async def _go_exactly(
        self, exchange: Exchange, admission: Admission, entry: FleetEntry
    ) -> None:
        await self.exact.look_up(admission, entry)
        exchange.dispatch()

    def authenticate(self, headers: Headers) -> Principal:
        """Raises Unauthorized."""
        return self.authenticator.authenticate(
            find(headers, b"authorization"), find(headers, b"x-api-key"), time.time()
        )

    @property
    def configured_models(self) -> list[str]:
        """Names and aliases of the configuration."""
        return self._table.names()

    def only_model(self) -> str | None:
        """The model of a request that names none: there must be no choice. Without workers it is
        the one that the configuration has, and waits for its first."""
        models = list(itertools.islice(self.fleet.models, 2))
        models = models or [model.name for model in self.config.models]
        return models[0] if len(models) == 1 else None

    def session_of(self, headers: Headers) -> str | None:
        """The session that a header names."""
        for name in self._session_headers:
            value = find(headers, name)
            if value:
                return value[:256].decode("latin-1")
        return None

    def session_in(self, fields: RequestFields) -> str | None:
        """The session that a body names."""
        if isinstance(fields.session_id, str):
            return fields.session_id[:256]
        if self.config.routing.session_from_user and isinstance(fields.user, str):
            return fields.user[:256]
        return None

    def is_plain_model(self, model: str) -> bool:
        """Whether nothing is configured for it, and workers serve it by that name."""
        return model not in self._table and bool(self.fleet.serving(model))

    def unsalted_root(self, model: str) -> int:
        """The root of prefixes of a served model; made once."""
        root = self._roots.get(model)
        if root is None:
            if len(self._roots) >= _MAX_ROOTS:
                self._roots.clear()
            root = self._roots[model] = root_hash(model, None)
        return root

    def resolve(self, admission: Admission) -> Route | None:
        return self._table.resolve(
            admission.model,
            session_id=admission.session_id,
            key_id=admission.principal.key_id,
            draw=self._rng.random(),
            can_serve=self.fleet.has_ready if admission.model in self._table else self._is_served,
        )

    def _is_served(self, model: str, _: Mapping[str, str]) -> bool:
        """Whether there is a model that is not configured: it has workers, in any state."""
        return bool(self.fleet.serving(model))

    def take_limits(self, admission: Admission, limits: Limits) -> None:
        """Take the request out of its key's limits. Raises RateLimited."""
        refusal = self.limiter.try_take(
            admission.principal.key_id, limits, admission.num_expected_tokens, self.now()
        )
        if refusal is not None:
            self.metrics.shed.add(f"limit_{refusal.what}")
            raise admissions.rate_limited(refusal)
        admission.is_counted = True

    # Routing.

    # Messages to workers.

    def limit_lines(self, exchange: Exchange) -> bytes:
        """What is left of the key's limits, for the answer's head."""
        admission = exchange.admission
        if admission is None or admission.limits is None or not admission.is_counted:
            return b""
        return ratelimit_lines(
            self.limiter.status(admission.principal.key_id, admission.limits, self.now())
        )

    def forwarded_lines(self, exchange: Exchange) -> bytes:
        """Header lines that all attempts of a request send."""
        return admissions.forwarded_head(
            exchange, keep_credentials=self._keeps_credentials, own_credentials=self._worker_line
        )

    def worker_lines(self) -> bytes:
        """Header lines of the router's own questions to workers."""
        return b"content-type: application/json\r\n%b" % self._worker_line

    # What happened to attempts.

    def begin_stream_deadline(self, attempt: Attempt) -> None:
        """The worker has just said something: it may be silent for so long from now on."""
        connection = attempt.connection
        if connection is not None:
            attempt.num_reads_seen = connection.num_reads
        attempt.deadline = self.now() + self.config.upstream.stream_idle_timeout_s

    def first_byte_timeout_s(self, exchange: Exchange) -> float:
        admission, upstream = exchange.admission, self.config.upstream
        assert admission is not None
        if admission.wants_stream:
            return upstream.first_byte_timeout_s
        return upstream.answer_timeout_s  # its first byte comes with its last token

    # The end.

    def close_exchange(self, exchange: Exchange) -> None:
        """Give back what it held, and have written down how it ended."""
        exchange.ended_at = self.now()
        if exchange.waiting_since:
            self.dispatcher.leave(exchange)
        admission = exchange.admission
        if admission is not None and admission.is_counted:
            self.limiter.release(admission.principal.key_id)
        self.records.add(exchange)

    def report_fault(self, exchange: Exchange) -> None:
        _log.exception("router.fault", request_id=exchange.request_id.decode("latin-1"))


def _entry(model: ModelConfig) -> ModelEntry:
    return ModelEntry(
        model.name,
        model.aliases,
        tuple(Arm(arm.weight, arm.model, arm.selector) for arm in model.split),
        model.sticky_by,
        model.fallback,
        model.policy,
    )
