"""An admin app as a server. Importing it takes half a second."""

from __future__ import annotations

import asyncio
import socket

from starlette.types import ASGIApp

from shoal.web.server import QuietServer, config, serve_until

_MAX_CONCURRENT = 256
_DRAIN_S = 1


async def serve(app: ASGIApp, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serve until `stop`; then requests under way have a second. Closes `listener`."""
    server = QuietServer(config(app, drain_s=_DRAIN_S, limit_concurrency=_MAX_CONCURRENT))
    await serve_until(stop, server, listener)
