"""A fake worker that runs for the whole session, as a user would start it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from shoal.benchmarks.client.fleet import Progress

T = TypeVar("T")
SHOAL = str(Path(sys.executable).with_name("shoal"))


@contextmanager
def fake_worker(*options: str) -> Iterator[str]:
    """Its address, while it runs. Fails when it does not end with status 0."""
    argv = [SHOAL, "fake-worker", "--port", "0", *options]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("Serving "), line
            yield line.split()[-1].removesuffix("/v1")
        finally:
            process.terminate()
            assert process.wait(30) == 0


@pytest.fixture(scope="session")
def shared_worker() -> Iterator[str]:
    with fake_worker("--ttft", "0.01", "--itl", "0.002") as url:
        yield url


@pytest.fixture
def worker_url(shared_worker: str) -> Iterator[str]:
    """A worker without faults, whatever the test before did to it."""
    yield shared_worker
    httpx.post(f"{shared_worker}/faults", json={"faults": []}).raise_for_status()


async def interrupted(work: Callable[[Callable[[Progress], None]], Coroutine[Any, Any, T]]) -> T:
    """The result of work that is cancelled once six requests have ended; it tells its progress."""
    enough = asyncio.Event()

    def seen(progress: Progress) -> None:
        if len(progress.records) > 5:
            enough.set()

    task = asyncio.create_task(work(seen))
    await asyncio.wait_for(enough.wait(), 30)
    task.cancel()
    return await asyncio.wait_for(task, 30)
