"""An admin app with its console on a port of this machine, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import uvicorn

from shoal.router.console.console import Console
from shoal.router.control.admin import AddRoutes, create_app


@contextlib.asynccontextmanager
async def serving(
    router: Any, console: Console, extras: Sequence[AddRoutes] = ()
) -> AsyncIterator[str]:
    """Its URL, while it serves."""
    app = create_app(router, [*extras, console.add_routes], open_paths=console.open_paths)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1)
    )
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    tasks = [asyncio.create_task(server.serve(sockets=[listener])),
             asyncio.create_task(console.run())]  # fmt: skip
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await tasks[0]
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        listener.close()
