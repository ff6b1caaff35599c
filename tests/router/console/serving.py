"""Apps on ports of this machine, in this process: an admin app with its console, a whole stage."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.types import ASGIApp

from shoal.admin.app import AddRoutes
from shoal.router.console.console import Console
from shoal.router.console.sampler import Sampler
from shoal.router.control.admin import create_app
from shoal.web.server import QuietServer, config
from tests.router.console.stage import StagedRouter, api, autoscaler, go_on, staged


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, **options: Any) -> AsyncIterator[int]:
    """Its port, while it serves. `options`: of uvicorn."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = QuietServer(config(app, drain_s=1, **options))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task
        listener.close()


@contextlib.asynccontextmanager
async def console(
    router: Any, extras: Sequence[AddRoutes] = (), sampler: Sampler | None = None
) -> AsyncIterator[str]:
    """The URL of a router's admin app with a console."""
    shown = Console(router, sampler)
    app = create_app(router, [*extras, shown.add_routes], open_paths=shown.open_paths)
    running = asyncio.create_task(shown.run())
    try:
        async with serving(app) as port:
            yield f"http://127.0.0.1:{port}"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@contextlib.asynccontextmanager
async def stage(pace_s: float = 0.0) -> AsyncIterator[tuple[StagedRouter, str]]:
    """The whole play: an hour of it, an autoscaler, and models that answer."""
    router = StagedRouter()
    sampler = await staged(router)
    going = asyncio.create_task(go_on(router))
    try:
        async with (
            serving(api(router, pace_s)) as router.api_port,
            console(router, [autoscaler(lambda: router.at)], sampler) as url,
        ):
            yield router, url
    finally:
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
