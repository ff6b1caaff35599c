"""A fake worker as a process: uvicorn around the routes, the engine's guards around both."""

from __future__ import annotations

import asyncio
import socket

import uvloop
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shoal.engine.server.auth import ApiKeyAuth
from shoal.engine.server.body_limit import BodyLimit
from shoal.engine.server.errors import ErrorBoundary, http_exception_response
from shoal.web.server import SignalledServer, config

from .routes import routes
from .settings import FakeWorkerSettings
from .worker import FakeWorker

DRAIN_S = 5


def create_app(worker: FakeWorker) -> Starlette:
    """The ASGI app of one worker."""
    settings = worker.settings
    middleware = [Middleware(ErrorBoundary)]
    if settings.api_keys:
        middleware.append(Middleware(ApiKeyAuth, api_keys=settings.api_keys))
    middleware.append(Middleware(BodyLimit, max_bytes=settings.max_body_bytes))
    return Starlette(
        routes=routes(worker),
        middleware=middleware,
        exception_handlers={HTTPException: http_exception_response},
    )


def serve(settings: FakeWorkerSettings, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT, then end what runs within DRAIN_S seconds."""
    uvloop.run(_serve(settings, listener))


async def _serve(settings: FakeWorkerSettings, listener: socket.socket) -> None:
    worker = FakeWorker(settings)
    worker.start_events()
    server = SignalledServer(
        config(
            create_app(worker),
            drain_s=DRAIN_S,
            http=_Protocol,
            log_level="critical",  # faults break responses on purpose
            proxy_headers=False,
        )
    )
    loop = asyncio.get_running_loop()
    publisher = worker.publisher
    if publisher is not None and publisher.replay_socket is not None:
        # ZeroMQ signals by edge: the descriptor wakes us, and what is there is read to the end.
        loop.add_reader(publisher.replay_socket.fileno(), publisher.answer_replays)
    try:
        await server.serve(sockets=[listener])
    finally:
        worker.close()


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol, with a handle for faults that cut the connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["shoal.transport"] = self.transport  # type: ignore[typeddict-unknown-key]
