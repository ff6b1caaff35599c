"""The admin API with the console, served. Importing it takes half a second."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Protocol

from shoal.admin.app import AddRoutes
from shoal.admin.server import serve

from ..console.console import Console, Shown
from .admin import RouterAdmin, create_app


class ServedRouter(RouterAdmin, Shown, Protocol):
    """What the admin API and the console need of it."""


async def run(
    router: ServedRouter,
    listener: socket.socket,
    stop: asyncio.Event,
    extras: Sequence[AddRoutes] = (),
) -> None:
    """Serve until `stop`; then requests under way have a second. Closes `listener`."""
    console = Console(router)
    app = create_app(router, [*extras, console.add_routes], open_paths=console.open_paths)
    watching = asyncio.create_task(console.run())
    try:
        await serve(app, listener, stop)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
