"""`shoal up` at work: addresses, model, router, autoscaler and workers, from start to end.

This process is the router's state process; the autoscaler and the supervisor of the workers run
beside it on its event loop, and know the router over HTTP alone.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shoal.autoscaler.collect.collector import HttpCollector
from shoal.autoscaler.collect.fetch import open_client
from shoal.autoscaler.local.endpoints import RouterEndpoints
from shoal.autoscaler.local.lifecycle import Timing
from shoal.autoscaler.local.process import Launch
from shoal.autoscaler.local.supervisor import Supervisor
from shoal.autoscaler.local.target import LocalTarget
from shoal.autoscaler.loop import ModelLoop
from shoal.autoscaler.policy import ScalingPolicy
from shoal.autoscaler.record.decision_record import Recorder, Recorders
from shoal.autoscaler.record.log import DecisionLog
from shoal.autoscaler.record.memory import Memory
from shoal.autoscaler.telemetry import Telemetry
from shoal.engine.config import EngineConfig
from shoal.engine.sources.model_files import ModelFiles
from shoal.engine.sources.resolve import resolve, resolve_shape
from shoal.log import configure_logging
from shoal.router.control import run
from shoal.router.control.load import Source, load

from .announcement import base_url
from .engine_settings import read_api_keys
from .progress import shown_progress
from .running_up import RunningUp, told
from .up_lines import Lines, print_panel, worker_line
from .up_policy import base_policy, policy_for
from .worker_order import WORKER_COMMAND
from .worker_orders import Places, launcher, places_for, serve_options

if TYPE_CHECKING:
    from fastapi import FastAPI

HOLD_S = {"cpu": 60.0, "cuda": 600.0}
"""Requests wait so long for a first worker, unless told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """The options of `shoal up`."""

    model: str
    worker_options: tuple[str, ...]
    host: str
    port: int
    served_model_name: str | None
    api_keys: tuple[str, ...]
    api_key_file: Path | None
    allow_open: bool
    admin_port: int | None
    min_replicas: int
    max_replicas: int | None
    ttft_target_s: float | None
    tpot_target_s: float | None
    scale_to_zero_after_s: float | None
    scale_down_delay_s: float | None
    interval_s: float | None
    policy: Path | None
    decision_log: Path | None
    gpus_per_worker: int | None
    spare: bool
    start_timeout_s: float
    drain_timeout_s: float
    hold_timeout_s: float | None
    router_config: Path | None
    log_format: Literal["console", "json"]
    log_level: Literal["debug", "info", "warning", "error"]


def run_up(options: UpOptions, *, worker_command: Sequence[str] = WORKER_COMMAND) -> None:
    """Until SIGTERM or Ctrl-C; for the main thread.

    What can be wrong is known before anything runs. Raises ConfigError and ModelError.
    """
    config, settings = serve_options(options.model, options.worker_options)
    places = places_for(
        config, max_replicas=options.max_replicas, gpus_per_worker=options.gpus_per_worker
    )
    base = base_policy(options.policy, device=config.device)
    configure_logging(options.log_format, level=options.log_level)
    key = secrets.token_urlsafe(32)
    overrides = _overrides(options, config, max_body_bytes=settings.max_body_bytes, key=key)
    keys = (*options.api_keys, *read_api_keys(options.api_key_file))
    source = Source(file=options.router_config, overrides=overrides, api_keys=keys)
    prepared = run.prepare(source)  # before minutes of download: the addresses can be had
    try:
        files = _fetched(config)
        name = options.served_model_name or files.name
        config = replace(config, model=str(files.path), served_model_name=name)
        prepared.source = replace(source, overrides={**overrides, "models": [{"name": name}]})
        prepared.loaded = load(prepared.source)
        policy = policy_for(
            base,
            model=name,
            min_replicas=options.min_replicas,
            max_replicas=places.count,
            gpus_per_worker=places.gpus_per_worker,
            interval_s=options.interval_s,
            ttft_s=options.ttft_target_s,
            tpot_s=options.tpot_target_s,
            scale_to_zero_after_s=options.scale_to_zero_after_s,
            scale_down_delay_s=options.scale_down_delay_s,
        )
        launch = launcher(
            config, settings, places, key=key, log_level=options.log_level, command=worker_command
        )
        _Up(options, prepared, policy, places, launch).serve()
    finally:
        prepared.close()


class _Up:
    """The running parts."""

    def __init__(
        self,
        options: UpOptions,
        prepared: run.Prepared,
        policy: ScalingPolicy,
        places: Places,
        launch: Callable[[int], Launch],
    ) -> None:
        self._options = options
        self._prepared = prepared
        self._policy = policy
        self._places = places
        self._launch = launch
        self._lines = Lines()
        self._memory = Memory()
        self._remembered = self._memory.add(policy)
        self._telemetry = Telemetry(self._memory)
        self._supervisor: Supervisor | None = None
        self._log: DecisionLog | None = None
        config = prepared.loaded.config
        port = prepared.sockets[0].getsockname()[1]
        self._running = RunningUp(
            pid=os.getpid(),
            port=port,
            url=base_url(config.listen.host, port),
            admin_url=base_url(config.admin.host, prepared.admin.getsockname()[1]),
            model=policy.model,
        )

    def serve(self) -> None:
        with told(self._running), self._logging():
            run.serve(
                self._prepared,
                command=run.proxy_command(self._options.log_format, self._options.log_level),
                on_ready=self._announce,
                alongside=self._alongside,
                admin_extras=[self._add_routes],
            )

    @contextmanager
    def _logging(self) -> Iterator[None]:
        """The decision log, if one is wanted. Raises ConfigError when it cannot be written."""
        if self._options.decision_log is not None:
            self._log = DecisionLog(self._options.decision_log, self._policy)
        try:
            yield
        finally:
            if self._log is not None:
                self._log.close()

    async def _alongside(self) -> str:
        """Autoscaler and workers. Cancelled once it ends the workers in order, twice at once."""
        [variant] = self._policy.spec.variants
        keys = self._prepared.loaded.admin_keys
        key = keys[0] if keys else None
        admin_url = self._running.admin_url
        async with RouterEndpoints(admin_url, key=key) as endpoints, open_client() as client:
            supervisor = self._supervisor = Supervisor(
                self._launch,
                endpoints,
                num_slots=self._places.count,
                timing=Timing(
                    start_timeout_s=self._options.start_timeout_s,
                    drain_timeout_s=self._options.drain_timeout_s,
                ),
                on_change=self._lines.changed,
                on_line=worker_line(self._options.log_level),
                keeps_spare=self._options.spare,
            )
            loop = ModelLoop(
                self._policy,
                {variant.name: LocalTarget(supervisor)},
                collector=HttpCollector(
                    self._policy,
                    client,
                    router_urls=[admin_url],
                    router_key=key,
                    on_error=lambda: self._telemetry.collector_failed(self._remembered),
                ),
                recorder=Recorders(*self._recorders()),
            )
            supervisor.want(variant.min_replicas)
            tasks = [asyncio.create_task(supervisor.run()), asyncio.create_task(loop.run())]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                return f"the autoscaler has failed: {done.pop().exception()!r}"
            finally:
                for task in tasks:
                    task.cancel()
                # Cancelled meanwhile, it cancels them once more: then workers are killed.
                await asyncio.gather(*tasks, return_exceptions=True)

    def _recorders(self) -> Iterator[Recorder]:
        yield self._remembered
        yield self._telemetry.recorder(self._remembered)
        yield self._lines
        if self._log is not None:
            yield self._log

    def _add_routes(self, app: FastAPI) -> None:
        """To the router's admin app."""
        from .up_routes import add_up_routes  # half a second, in the thread of that app

        add_up_routes(app, self._memory, self._telemetry, lambda: self._supervisor)

    def _announce(self, serving: run.Serving) -> None:
        gpus, threads = self._places.gpus_per_worker, self._places.num_threads
        each = _counted(gpus, "GPU") if gpus else _counted(threads or 0, "CPU thread")
        print_panel(
            url=self._running.url,
            admin_url=self._running.admin_url,
            policy=self._policy,
            each=f"{each} each",
            needs_key=serving.needs_key,
        )


def _overrides(
    options: UpOptions, config: EngineConfig, *, max_body_bytes: int, key: str
) -> dict[str, Any]:
    admin_port = options.admin_port
    if admin_port is None:
        admin_port = options.port + 1 if _is_free(options.port + 1) else 0
    overrides: dict[str, Any] = {
        "listen": {"host": options.host, "port": options.port, "allow_open": options.allow_open},
        "admin": {"port": admin_port},
        "bounds": {"max_body_bytes": max_body_bytes},
        "upstream": {"api_key": key},
        "drain_timeout_s": options.drain_timeout_s,
    }
    hold_s = options.hold_timeout_s
    if hold_s is None and options.router_config is None:
        hold_s = HOLD_S[config.device]
    if hold_s is not None:
        overrides["flow_control"] = {"hold_without_endpoint_s": hold_s}
    if options.router_config is None:
        overrides["telemetry"] = {"access_log": None}  # the terminal is for what changes
    return overrides


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _is_free(port: int) -> bool:
    if not 1 < port <= 65535:  # the one after 0, which is any, would be 1
        return False
    with socket.socket() as probe:
        # As servers do: connections that have ended do not make a port busy.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _fetched(config: EngineConfig) -> ModelFiles:
    """On this disk. Raises ModelNotFound, DownloadFailed or UnsupportedModel."""
    find = resolve_shape if config.load_format == "dummy" else resolve
    with closing(shown_progress()) as progress:
        return find(config.model, progress=progress)
