"""The HTTP side of the worker: uvicorn around the app. Importing it takes half a second."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator

import uvicorn

from .app import create_app
from .interface import Engine
from .settings import ServerSettings

_KEEP_ALIVE_S = 75
"""Longer than the pools of common clients keep a connection: they close first, not we."""


async def run(
    engine: Engine, settings: ServerSettings, listener: socket.socket, stop: asyncio.Event
) -> None:
    """Serve until SIGTERM, SIGINT or `stop`, then let open streams end for the drain time."""
    server = _Server(
        uvicorn.Config(
            create_app(engine, settings),
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(settings.drain_timeout_s),
        )
    )

    async def obey() -> None:
        await stop.wait()
        server.should_exit = True

    obeying = asyncio.create_task(obey())
    try:
        await server.serve(sockets=[listener])
    finally:
        obeying.cancel()


class _Server(uvicorn.Server):
    """uvicorn's own raises the signal again at its end, which would kill us before the engine
    is stopped."""

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
