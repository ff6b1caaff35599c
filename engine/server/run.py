"""The worker process: HTTP server and engine side by side, from start to drained end."""

from __future__ import annotations

import asyncio
import errno
import importlib
import socket
from collections.abc import Callable

import uvloop

from shoal.errors import ConfigError, EngineUnavailable

from ..async_engine import AsyncEngine
from ..config import EngineConfig
from ..sources.progress import Progress
from .settings import ServerSettings

OnReady = Callable[[AsyncEngine, int], None]
"""Hears of the engine and the bound port when the model is loaded."""


def serve(
    config: EngineConfig,
    settings: ServerSettings,
    *,
    progress: Progress | None = None,
    on_ready: OnReady | None = None,
) -> None:
    """Serve a model until SIGTERM or SIGINT; for the main thread, which gets the signals.

    Raises ConfigError (the address cannot be had), ModelError (the model cannot be served) or
    EngineUnavailable (the engine is dead for good): the process is to exit non-zero then.
    """
    uvloop.run(serve_engine(AsyncEngine(config), settings, progress=progress, on_ready=on_ready))


async def serve_engine(
    engine: AsyncEngine,
    settings: ServerSettings,
    *,
    progress: Progress | None = None,
    on_ready: OnReady | None = None,
) -> None:
    """Listen at once, start the engine meanwhile, serve until a signal, then drain and stop it.

    Raises what `serve` raises.
    """
    listener = bind(settings.host, settings.port)

    async def run_engine() -> None:
        await engine.start(progress=progress)
        if on_ready is not None:
            on_ready(engine, listener.getsockname()[1])
        reason = await engine.wait_dead()
        raise EngineUnavailable(f"The engine has died: {reason}.")

    async def run_server() -> None:
        # fastapi and uvicorn take half a second to import: the engine core starts meanwhile.
        http_server = await asyncio.to_thread(importlib.import_module, f"{__package__}.http_server")
        await http_server.run(engine, settings, listener, stop)

    stop = asyncio.Event()
    running = asyncio.create_task(run_engine())
    serving = asyncio.create_task(run_server())
    try:
        await asyncio.wait({serving, running}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
        await serving
        running.cancel()
        await asyncio.wait({running})
        await engine.shutdown()
    if not running.cancelled():
        running.result()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError saying what is wrong with the address."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except socket.gaierror as error:
        raise ConfigError(f"cannot listen on {host!r}: no such host ({error})") from error
    except OSError as error:
        reason = {
            errno.EADDRINUSE: "another process uses that port; stop it or take another port",
            errno.EACCES: "ports below 1024 need privileges; take a higher one",
            errno.EADDRNOTAVAIL: "this machine does not have that address",
        }.get(error.errno or 0, str(error))
        raise ConfigError(f"cannot listen on {host}:{port}: {reason}") from error
