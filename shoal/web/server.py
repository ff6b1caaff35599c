"""uvicorn as every program of ours runs it. Importing it takes half a second."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

_KEEP_ALIVE_S = 75
"""Longer than the pools of common clients keep a connection: they close first, not we."""


def config(app: ASGIApp, *, drain_s: int, **more: Any) -> uvicorn.Config:
    """Its log is ours, and open requests have `drain_s` seconds at the end; `more` of uvicorn's
    settings win."""
    settings: dict[str, Any] = {
        "loop": "uvloop",
        "http": "httptools",
        "ws": "none",
        "lifespan": "off",
        "log_config": None,
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "timeout_keep_alive": _KEEP_ALIVE_S,
        "timeout_graceful_shutdown": drain_s,
    }
    return uvicorn.Config(app, **{**settings, **more})


class QuietServer(uvicorn.Server):
    """Signals are the process's own business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class SignalledServer(uvicorn.Server):
    """SIGINT and SIGTERM end it. uvicorn's own raises the signal again at its end, which would kill
    the process before what is behind the app has been ended."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for number in signals:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)


async def serve_until(stop: asyncio.Event, server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve until `stop`, or what else ends the server. Closes `listener`."""

    async def obey() -> None:
        await stop.wait()
        server.should_exit = True

    obeying = asyncio.create_task(obey())
    try:
        await server.serve(sockets=[listener])
    finally:
        obeying.cancel()
        await asyncio.gather(obeying, return_exceptions=True)
