"""uvicorn around the admin app. Importing it takes half a second."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence
from typing import Protocol

import uvicorn

from ..console.console import Console, Shown
from .admin import AddRoutes, RouterAdmin, create_app

_KEEP_ALIVE_S = 75
_MAX_CONCURRENT = 256


class ServedRouter(RouterAdmin, Shown, Protocol):
    """What the admin API and the console need of it."""


class _Server(uvicorn.Server):
    """Signals are the state process's own business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def run(
    router: ServedRouter,
    listener: socket.socket,
    stop: asyncio.Event,
    extras: Sequence[AddRoutes] = (),
) -> None:
    """Serve until `stop`; then requests under way have a second. Closes `listener`."""
    console = Console(router)
    server = _Server(
        uvicorn.Config(
            create_app(router, [*extras, console.add_routes], open_paths=console.open_paths),
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=_MAX_CONCURRENT,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=1,
        )
    )

    async def obey() -> None:
        await stop.wait()
        server.should_exit = True

    beside = [asyncio.create_task(obey()), asyncio.create_task(console.run())]
    try:
        await server.serve(sockets=[listener])
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
