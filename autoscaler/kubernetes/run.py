"""The process of `shoal autoscale run`: election, controller, admin API, and a graceful end."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvloop

from shoal.clock import MonotonicClock
from shoal.errors import ConfigError

from ..admin.serving import listen, serve_admin, until_signalled
from ..collect.fetch import open_client
from ..record.memory import Memory
from ..settings.documents import RouterSettings
from ..settings.load import read_policies
from ..settings.router_key import ROUTER_KEY
from ..telemetry import Telemetry
from .api import Api, connect
from .controller import Controller
from .event_writer import EventWriter
from .lease import Leadership
from .policy_object import Scaled, of_loaded, taken
from .policy_runner import Services
from .resources import Resources

LEASE_NAME = "shoal-autoscaler"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Of one process."""

    namespaces: tuple[str, ...] = ()
    """Whose policies; empty: all namespaces."""
    file: Path | None = None
    """Policies are read here instead."""
    leader_elect: bool = True
    lease_name: str = LEASE_NAME
    lease_namespace: str | None = None
    """None: our own."""
    kubeconfig: str | None = None
    """None: we run in the cluster."""
    router_url: str | None = None
    """For policies that name no router."""
    drain_timeout_s: float = 120.0
    admin_host: str = "127.0.0.1"
    admin_port: int = 8082
    admin_keys: tuple[str, ...] = ()
    decision_log_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """Settings that were checked, and the socket: what can fail has."""

    settings: RunSettings
    router: RouterSettings | None
    policies: tuple[Scaled, ...] | None
    admin: socket.socket


def prepare(settings: RunSettings) -> Prepared:
    """Raises ConfigError."""
    router = None
    if settings.router_url is not None:
        key_env = ROUTER_KEY if os.environ.get(ROUTER_KEY) else None
        router = RouterSettings(url=settings.router_url, key_env=key_env)
    policies = None
    if settings.file is not None:
        policies = tuple(_of_file(settings.file, router))
    if (folder := settings.decision_log_dir) is not None and not os.access(folder, os.W_OK):
        raise ConfigError(f"--decision-log-dir: {folder} is no directory that can be written")
    admin = listen(settings.admin_host, settings.admin_port)
    return Prepared(settings, router, policies, admin)


def run(prepared: Prepared, *, on_ready: Callable[[int], None] = lambda port: None) -> None:
    """Until SIGTERM or SIGINT, for the main thread; `on_ready` gets the admin port.

    Raises ConfigError when there is no access to Kubernetes.
    """
    try:
        uvloop.run(_Process(prepared).run(on_ready))
    finally:
        prepared.admin.close()


class _Process:
    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._settings = prepared.settings
        self._clock = MonotonicClock()
        self._memory = Memory()
        self._is_ready: Callable[[], bool] = lambda: False
        self._leads: Callable[[], bool] = lambda: False

    async def run(self, on_ready: Callable[[int], None]) -> None:
        async with connect(self._settings.kubeconfig) as api, open_client() as client:
            telemetry = Telemetry(self._memory, is_leader=lambda: self._leads())
            services = Services(
                api=api, resources=Resources(api), client=client, clock=self._clock,
                drain_timeout_s=self._settings.drain_timeout_s, memory=self._memory,
                telemetry=telemetry, environ=os.environ,
                decision_log_dir=self._settings.decision_log_dir,
            )  # fmt: skip
            stop_admin = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                admin = tasks.create_task(
                    serve_admin(
                        self._prepared.admin, self._memory, telemetry,
                        keys=self._settings.admin_keys, is_ready=lambda: self._is_ready(),
                        stop=stop_admin,
                    )
                )  # fmt: skip
                try:
                    on_ready(self._prepared.admin.getsockname()[1])
                    await until_signalled(self._work(api, services))
                finally:
                    stop_admin.set()
                await admin
        log.info("autoscaler.ended")

    async def _work(self, api: Api, services: Services) -> None:
        identity = f"{socket.gethostname()}_{secrets.token_hex(4)}"
        events = EventWriter(api, instance=identity, clock=self._clock)

        async def control() -> None:
            await Controller(
                services, events=events, clock=self._clock, namespaces=self._settings.namespaces,
                default_router=self._prepared.router, from_file=self._prepared.policies,
            ).run()  # fmt: skip

        if not self._settings.leader_elect:
            self._is_ready = self._leads = lambda: True
            await control()
            return
        leadership = Leadership(
            api, namespace=self._settings.lease_namespace or api.namespace,
            name=self._settings.lease_name, identity=identity,
        )  # fmt: skip
        api.may_write = leadership.leads
        self._is_ready = lambda: leadership.is_ready
        self._leads = leadership.leads
        await leadership.run(control)


def _of_file(path: Path, router: RouterSettings | None) -> Iterable[Scaled]:
    """All or nothing: what is in one file is mended in one place. Raises ConfigError."""
    found = []
    for loaded in read_policies(path):
        try:
            found.append(of_loaded(loaded, router))
        except ConfigError as error:
            raise ConfigError(f"{path}: {loaded.key}: {error}") from None
    for key, problem in taken(found).items():
        raise ConfigError(f"{path}: {key}: {problem.message}")
    return found
