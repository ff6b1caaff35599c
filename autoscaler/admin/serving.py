"""The admin API beside a process's work, and the signals that end it."""

from __future__ import annotations

import asyncio
import importlib
import secrets
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from shoal.admin.auth import is_loopback
from shoal.errors import ConfigError

from ..record.memory import Memory
from ..telemetry import Telemetry

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_log = structlog.get_logger(__name__)


def listen(host: str, port: int) -> socket.socket:
    """Raises ConfigError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error} (--admin-port)") from error


async def serve_admin(
    listener: socket.socket,
    memory: Memory,
    telemetry: Telemetry,
    *,
    keys: Sequence[str],
    is_ready: Callable[[], bool],
    stop: asyncio.Event,
) -> None:
    """Until `stop`. Other machines see whether we live, and metrics; for more they need a key."""
    # fastapi and uvicorn take half a second to import: the work begins meanwhile.
    app_module = await asyncio.to_thread(importlib.import_module, f"{__package__}.app")
    server = await asyncio.to_thread(importlib.import_module, "shoal.admin.server")
    if not keys and not is_loopback(listener.getsockname()[0]):
        keys = (secrets.token_urlsafe(32),)  # that nobody knows
    app = app_module.create_app(memory, telemetry, keys=keys, is_ready=is_ready)
    await server.serve(app, listener, stop)


async def until_signalled(work: Coroutine[Any, Any, None]) -> None:
    """Cancel it with the first signal, and let it give back what it holds. Raises its errors."""
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, _stop, task, number)
    try:
        await asyncio.wait({task})
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
        if not task.done():  # we are cancelled ourselves
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled():
        task.result()


def _stop(task: asyncio.Task[None], number: signal.Signals) -> None:
    _log.info("autoscaler.ending", signal=number.name)
    task.cancel()
