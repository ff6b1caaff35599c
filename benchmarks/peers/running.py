"""Start a server, wait until it answers, stop it with everything it started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from shoal.errors import ShoalError

from .commands import ServerCommand

START_TIMEOUT_S = 300.0
POLL_S = 0.05
LOG_LINES = 20


class PeerFailed(ShoalError):
    """A contestant did not start, died or answered wrongly; the message holds its last words."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    url: str
    pid: int
    start_s: float
    """From the start of its process to the first good answer of its ready path."""


@contextmanager
def running(command: ServerCommand) -> Iterator[RunningServer]:
    """The server while it runs, in a process group of its own that is stopped at the end.

    Raises PeerFailed when it does not come up.
    """
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    argv = [part.replace("{port}", str(port)) for part in command.argv]
    with tempfile.NamedTemporaryFile("w+", prefix=f"{command.name}-", suffix=".log") as log:
        start = time.perf_counter()
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **command.env},
                start_new_session=True,
            )
        except OSError as error:
            raise PeerFailed(f"{command.name} cannot start: {error}") from None
        try:
            _wait_until_ready(process, url + command.ready_path, Path(log.name))
            yield RunningServer(url, process.pid, time.perf_counter() - start)
        finally:
            stop_group(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    with httpx.Client(timeout=2, trust_env=False) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise PeerFailed(f"ended with exit code {process.returncode}:\n{last_lines(log)}")
            try:
                if client.get(url).status_code == 200:
                    return
            except httpx.TransportError:
                pass  # not listening yet
            time.sleep(POLL_S)
    raise PeerFailed(f"was not ready after {START_TIMEOUT_S:.0f} s:\n{last_lines(log)}")


def last_lines(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:])


def stop_group(process: subprocess.Popen[Any]) -> None:
    """End a process and all of its group: asked first, then killed."""
    for signum, timeout_s in ((signal.SIGTERM, 20), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, signum)
            process.wait(timeout_s)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        # The leader is gone; what it may have left in its group goes with SIGKILL.
