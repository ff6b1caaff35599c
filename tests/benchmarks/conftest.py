"""A fake worker that runs for the whole session, as a user would start it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

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
