from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.router.e2e.processes import Nursery
from tests.router.e2e.routers import Router
from tests.router.e2e.workers import FakeWorker

StartWorkers = Callable[..., list[FakeWorker]]
StartRouter = Callable[..., Router]
Connect = Callable[..., httpx.AsyncClient]


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    # A short path: Unix sockets (of takeovers) lie below it, and those have 108 bytes.
    with (
        tempfile.TemporaryDirectory(prefix="shoal-e2e-") as folder,
        closing(Nursery(Path(folder))) as nursery,
    ):
        yield nursery


@pytest.fixture(scope="session")
def idle_workers(nursery: Nursery) -> Iterator[list[FakeWorker]]:
    """Three fast workers for all tests that let them live."""
    with ExitStack() as stack:
        workers = [stack.enter_context(closing(FakeWorker(nursery))) for _ in range(3)]
        yield [worker.wait_ready() for worker in workers]


@pytest.fixture
def workers(idle_workers: list[FakeWorker]) -> Iterator[list[FakeWorker]]:
    """The same, without faults whatever the test before did."""
    yield idle_workers
    for worker in idle_workers:
        worker.go_on()
        worker.fail()


@pytest.fixture
def start_workers(nursery: Nursery) -> Iterator[StartWorkers]:
    """Workers of a test's own: `start_workers(2, "--ttft", "1")`."""
    with ExitStack() as stack:

        def start(count: int, *options: str) -> list[FakeWorker]:
            made = [
                stack.enter_context(closing(FakeWorker(nursery, *options))) for _ in range(count)
            ]
            return [worker.wait_ready() for worker in made]

        yield start


@pytest.fixture(scope="session")
def router(nursery: Nursery) -> Iterator[Router]:
    """One for all tests that do not end it; each begins with `router.configure(workers, {...})`."""
    with closing(Router(nursery)) as router:
        yield router


@pytest.fixture(scope="session")
def pair(nursery: Nursery) -> Iterator[Router]:
    """The same with two data-plane processes."""
    with closing(Router(nursery, processes=2)) as router:
        yield router


@pytest.fixture
def start_router(nursery: Nursery) -> Iterator[StartRouter]:
    """A router of a test's own: `start_router(workers, {"retry": {...}})`."""
    with ExitStack() as stack:

        def start(*arguments: Any, **options: Any) -> Router:
            return stack.enter_context(closing(Router(nursery, *arguments, **options)))

        yield start


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Clients of routers, closed at the end."""
    clients: list[httpx.AsyncClient] = []

    def connect(server: Router | FakeWorker, **options: Any) -> httpx.AsyncClient:
        options.setdefault(
            "limits", httpx.Limits(max_connections=None, max_keepalive_connections=None)
        )
        client = httpx.AsyncClient(
            base_url=server.url, timeout=120, trust_env=False, verify=False, **options,
        )  # fmt: skip
        clients.append(client)
        return client

    yield connect
    for client in clients:
        await client.aclose()
