"""The C programs, compiled once, and a mock worker of one's own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from shoal.benchmarks.router.processes import ServerProcess, free_ports
from shoal.benchmarks.router.programs import Programs, compile_programs

StartMock = Callable[..., str]


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    return compile_programs(tmp_path_factory.mktemp("programs"))


@pytest.fixture
def mock_process(programs: Programs, tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Starts mock workers with these options, ready; they end with the test."""
    with ExitStack() as stack:

        def start(*options: str) -> ServerProcess:
            (port,) = free_ports(1)
            url = f"http://127.0.0.1:{port}"
            argv = [str(programs.mock_worker), "--port", str(port), "--id", "w1", *options]
            process = ServerProcess(
                url, argv, ready=httpx.Request("GET", f"{url}/health"), log=tmp_path / "mock.log"
            )
            stack.enter_context(process).wait_until_ready()
            return process

        yield start


@pytest.fixture
def mock_url(mock_process: Callable[..., ServerProcess]) -> StartMock:
    """The same, when only the address matters."""
    return lambda *options: mock_process(*options).name
