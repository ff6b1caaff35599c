from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import pytest
import uvloop

from shoal.router.messages import EndpointRecord
from shoal.router.settings.config import RouterConfig
from tests.router.proxy.raw_worker import RawWorker, Script
from tests.router.proxy.running_router import QUIET, RunningRouter


class RunRouter(Protocol):
    """Starts a router in front of workers; `settings` are sections of its configuration."""

    def __call__(
        self,
        *workers: RawWorker | EndpointRecord,
        keys: bytes = b"",
        engine: str = "openai",
        context: ssl.SSLContext | None = None,
        **settings: Any,
    ) -> Awaitable[RunningRouter]: ...


RunWorker = Callable[..., Awaitable[RawWorker]]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop the data plane runs on: its transports differ from asyncio's where it matters."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def no_system_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the system's takes longer than most tests; those with TLS bring their own."""
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda *_: None)


@pytest.fixture
async def faults() -> AsyncIterator[list[dict[str, Any]]]:
    """What the event loop had to report: exceptions out of callbacks. None is expected."""
    seen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
    yield seen
    assert seen == []


@pytest.fixture
async def run_worker() -> AsyncIterator[RunWorker]:
    workers: list[RawWorker] = []

    async def run(
        script: Script | None = None, *, context: ssl.SSLContext | None = None
    ) -> RawWorker:
        worker = RawWorker(script)
        workers.append(worker)
        await worker.start(context)
        return worker

    yield run
    for worker in workers:
        await worker.stop()


@pytest.fixture
async def run_router(faults: list[dict[str, Any]]) -> AsyncIterator[RunRouter]:
    routers: list[RunningRouter] = []

    async def run(
        *workers: RawWorker | EndpointRecord,
        keys: bytes = b"",
        engine: str = "openai",
        context: ssl.SSLContext | None = None,
        **settings: Any,
    ) -> RunningRouter:
        router = RunningRouter(RouterConfig(**{"telemetry": QUIET, **settings}), keys)
        routers.append(router)
        router.take_workers(workers, engine=engine)
        await router.start(context)
        return router

    yield run
    for router in routers:
        await router.stop()
