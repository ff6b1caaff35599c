"""How `shoal up` starts its workers: options of `shoal serve`, threads, GPUs, and a key."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import typer
from typer.main import get_command

from shoal.autoscaler.local.gpus import check_gpus, find_gpus, gpu_slots
from shoal.autoscaler.local.process import Launch
from shoal.engine.config import EngineConfig
from shoal.engine.runner.machine import cpu_share
from shoal.engine.server.settings import ServerSettings
from shoal.errors import ConfigError

from .engine_settings import engine_settings
from .serve import serve
from .worker_order import WORKER_COMMAND, WorkerOrder

DEFAULT_MAX = 2
"""Workers on a CPU, unless told: they share its cores."""
WORKER_DRAIN_S = 5.0
"""After SIGTERM, which comes when the router has let it run empty."""
_OURS = (
    "host", "port", "api_key", "api_key_file", "router", "router_config", "admin_port",
    "served_model_name", "drain_timeout_s", "log_format", "log_level", "kv_events_endpoint",
    "kv_events_replay_endpoint",
)  # fmt: skip
"""Options of `shoal serve` that a worker cannot have: the router has them, or all would clash."""


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """Where workers may run."""

    count: int
    environments: list[dict[str, str]]
    """By slot, over ours."""
    num_threads: int | None
    """Of each; None: as many as it likes."""
    gpus_per_worker: int


def serve_options(model: str, options: Sequence[str]) -> tuple[EngineConfig, ServerSettings]:
    """What `shoal serve MODEL OPTIONS` would mean. Raises ConfigError."""
    app = typer.Typer(add_completion=False)
    app.command("serve")(serve)
    command = get_command(app)
    try:
        context = command.make_context("shoal serve", [*options, "--", model])
    except Exception as error:
        if (told := getattr(error, "format_message", None)) is None:
            raise
        raise ConfigError(f"options after --, which are those of shoal serve: {told()}") from None
    for name in _OURS:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} is no option of a worker here: put it before the --")
    given = {**context.params, "api_key": None}  # the variable is the router's
    return engine_settings(given)


def places_for(
    config: EngineConfig, *, max_replicas: int | None, gpus_per_worker: int | None
) -> Places:
    """Raises ConfigError when there are not as many as were asked for."""
    if config.device == "cuda":
        each = gpus_per_worker or 1
        gpus = find_gpus(os.environ)
        count = check_gpus(gpus, gpus_per_worker=each, max_replicas=max_replicas)
        return Places(
            count=count,
            environments=gpu_slots(gpus, each),
            num_threads=config.num_threads,
            gpus_per_worker=each,
        )
    if gpus_per_worker:
        raise ConfigError(
            "--gpus-per-worker needs workers on GPUs: shoal up MODEL -- --device cuda"
        )
    count = max_replicas or DEFAULT_MAX
    threads = config.num_threads or max(cpu_share().num_threads // count, 1)
    return Places(count=count, environments=[{}] * count, num_threads=threads, gpus_per_worker=0)


def launcher(
    config: EngineConfig,
    settings: ServerSettings,
    places: Places,
    *,
    key: str,
    log_level: str,
    command: Sequence[str] = WORKER_COMMAND,
) -> Callable[[int], Launch]:
    """How the worker of a slot is started: on a loopback port that only `key` opens."""
    order = msgspec.json.encode(
        WorkerOrder(
            config=replace(config, num_threads=places.num_threads),
            settings=replace(
                settings,
                host="127.0.0.1",
                port=0,
                api_keys=(key,),
                drain_timeout_s=WORKER_DRAIN_S,
            ),
            log_format="console",
            log_level=log_level,
        )
    )
    return lambda slot: Launch(command=command, order=order, environment=places.environments[slot])
