"""Fixtures: the app around a fake engine, in process and on a real socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx
import pytest
import structlog
import uvicorn

from shoal.engine.server.app import create_app
from shoal.engine.server.run import bind
from shoal.engine.server.settings import ServerSettings
from tests.engine.server.fake_engine import FakeEngine


@pytest.fixture(scope="session", autouse=True)
def _plain_tracebacks() -> None:
    """structlog's own are so slow that a fault under load looks like a hang."""
    plain = structlog.dev.plain_traceback
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=plain)
    structlog.configure(processors=[structlog.processors.add_log_level, renderer])


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def settings() -> ServerSettings:
    return ServerSettings(max_body_bytes=100_000)


@pytest.fixture
async def client(engine: FakeEngine, settings: ServerSettings) -> AsyncIterator[httpx.AsyncClient]:
    """Talks to the app without a socket."""
    app = create_app(engine, settings)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://test"
    ) as client:
        yield client


@dataclass
class LiveServer:
    """A server on a loopback port, in a thread with a loop of its own."""

    url: str
    engine: FakeEngine
    loop: asyncio.AbstractEventLoop


@pytest.fixture(scope="session")
def live_server() -> Iterator[LiveServer]:
    listener = bind("127.0.0.1", 0)
    engine = FakeEngine(max_model_len=100_000)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(engine, ServerSettings()),
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
        )
    )
    started = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        started.set()
        await server.serve(sockets=[listener])

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    started.wait(60)
    yield LiveServer(f"http://127.0.0.1:{listener.getsockname()[1]}", engine, loops[0])
    server.should_exit = True
    thread.join(10)
