"""The HTTP side of the worker: uvicorn around the app. Importing it takes half a second."""

from __future__ import annotations

import asyncio
import socket

from shoal.web.server import SignalledServer, config, serve_until

from .app import create_app
from .interface import Engine
from .settings import ServerSettings


async def run(
    engine: Engine, settings: ServerSettings, listener: socket.socket, stop: asyncio.Event
) -> None:
    """Serve until SIGTERM, SIGINT or `stop`, then let open streams end for the drain time."""
    app = create_app(engine, settings)
    server = SignalledServer(config(app, drain_s=int(settings.drain_timeout_s)))
    await serve_until(stop, server, listener)
