"""The process of `shoal autoscale keda`: sessions, gRPC server, admin API."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import structlog
import uvloop

from shoal.clock import Clock, MonotonicClock
from shoal.errors import ConfigError

from ..admin.serving import listen, serve_admin, until_signalled
from ..collect.collector import HttpCollector
from ..collect.fetch import open_client
from ..record.decision_record import Recorder
from ..record.log import DecisionLog, log_path
from ..record.memory import Memory
from ..settings.documents import RouterSettings
from ..settings.load import LoadedPolicy, read_policies
from ..settings.router_key import ROUTER_KEY, router_key
from ..telemetry import Telemetry
from .server import ListenSettings, Server
from .session import Session
from .sessions import Sessions

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class KedaSettings:
    """Of one process."""

    policies: tuple[LoadedPolicy, ...] = ()
    router_url: str | None = None
    """For policies that name no router."""
    listen: ListenSettings
    decision_log_dir: Path | None = None
    """A folder: a log for each session."""
    admin_host: str = "127.0.0.1"
    admin_port: int = 8082
    admin_keys: tuple[str, ...] = ()


def load_policies(file: Path | None, router_url: str | None) -> tuple[LoadedPolicy, ...]:
    """Raises ConfigError: also when nobody says where the router of a policy is."""
    policies = () if file is None else tuple(read_policies(file))
    for policy in policies:
        if policy.router is None and router_url is None:
            raise ConfigError(f"{file}: {policy.key}: spec.router and --router-url are missing")
    return policies


def run(
    settings: KedaSettings, environ: Mapping[str, str], on_ready: Callable[[int, int], None]
) -> None:
    """Until SIGTERM or SIGINT, for the main thread; `on_ready` gets the ports of gRPC and admin.

    Raises ConfigError.
    """
    with listen(settings.admin_host, settings.admin_port) as admin:
        uvloop.run(_run(settings, environ, admin, on_ready))


async def _run(
    settings: KedaSettings, environ: Mapping[str, str], admin: socket.socket,
    on_ready: Callable[[int, int], None],
) -> None:  # fmt: skip
    memory, clock = Memory(), MonotonicClock()
    telemetry = Telemetry(memory)
    async with open_client() as client:
        maker = SessionMaker(settings, environ, client, memory, telemetry, clock)
        sessions = Sessions(settings.policies, maker.make, clock)
        server = Server(sessions, settings.listen)
        port = await server.start()
        stop = asyncio.Event()

        async def work() -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(sessions.run())
                tasks.create_task(
                    serve_admin(
                        admin, memory, telemetry, keys=settings.admin_keys,
                        is_ready=lambda: True, stop=stop,
                    )
                )  # fmt: skip

        try:
            on_ready(port, admin.getsockname()[1])
            await until_signalled(work())
        finally:
            await server.stop()
            await sessions.close()
            _log.info("autoscaler.ended")


class SessionMaker:
    """Makes sessions with all they need."""

    def __init__(
        self, settings: KedaSettings, environ: Mapping[str, str], client: httpx.AsyncClient,
        memory: Memory, telemetry: Telemetry, clock: Clock,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._environ = environ
        self._client = client
        self._memory = memory
        self._telemetry = telemetry
        self._clock = clock

    def make(self, name: str, loaded: LoadedPolicy) -> Session:
        """Raises ConfigError."""
        router = loaded.router or self._default_router()
        policy = loaded.policy
        memory = self._memory.add(policy, name=name)
        recorders: list[Recorder] = [memory, self._telemetry.recorder(memory)]
        log = None
        if self._settings.decision_log_dir is not None:
            log = DecisionLog(log_path(self._settings.decision_log_dir, name), policy)
            recorders.append(log)
        collector = HttpCollector(
            policy,
            self._client,
            router_urls=(router.url, *router.more_urls),
            router_key=router_key(router.key_env, self._environ),
            endpoint_labels=loaded.endpoint_labels,
            on_error=partial(self._telemetry.collector_failed, memory),
        )

        def closed() -> None:
            self._memory.remove(name)
            if log is not None:
                log.close()

        return Session(policy, collector, self._clock, recorders=tuple(recorders), on_close=closed)

    def _default_router(self) -> RouterSettings:
        url = self._settings.router_url
        if url is None:
            raise ConfigError("the scaler knows no router: start it with --router-url")
        return RouterSettings(url=url, key_env=ROUTER_KEY if ROUTER_KEY in self._environ else None)
