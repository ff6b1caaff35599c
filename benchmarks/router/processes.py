"""Processes that this benchmark starts: each has an owner, a log, and an end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

import httpx

from shoal.benchmarks.peers.running import last_lines, stop_group

from .programs import BenchFailed

START_TIMEOUT_S = 30.0
POLL_S = 0.02


class ServerProcess:
    """One server in a process group of its own. As a context manager it starts and surely ends."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        ready: httpx.Request,
        log: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.ready = ready
        self.log = log
        self._argv = [str(part) for part in argv]
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def argv(self) -> list[str]:
        return list(self._argv)

    @property
    def has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def start(self) -> None:
        """Without waiting until it answers. Raises BenchFailed when it cannot be started."""
        assert self.has_ended, f"{self.name} runs already"
        with self.log.open("ab") as log:
            try:
                self._process = subprocess.Popen(
                    self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._env,
                    start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise BenchFailed(f"{self.name} cannot start: {error}") from None

    def wait_until_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Until it answers its ready request with 200. Raises BenchFailed with its last words."""
        deadline = time.monotonic() + timeout_s
        with httpx.Client(timeout=2, trust_env=False) as client:
            while time.monotonic() < deadline:
                if self.has_ended:
                    raise BenchFailed(f"{self.name} has ended:\n{last_lines(self.log)}")
                with suppress(httpx.TransportError):
                    if client.send(self.ready).status_code == 200:
                        return
                time.sleep(POLL_S)
        raise BenchFailed(
            f"{self.name} was not ready after {timeout_s:.0f} s:\n{last_lines(self.log)}"
        )

    def wait_until_ended(self, timeout_s: float) -> None:
        """Raises BenchFailed when it goes on."""
        assert self._process is not None
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise BenchFailed(f"{self.name} still runs after {timeout_s:.0f} s") from None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself; nothing when it has ended."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to the whole group, without a chance to say goodbye."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)

    def stop(self) -> None:
        """Asked first, then killed; a stopped (SIGSTOP) process too."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGCONT)
            stop_group(self._process)


def start_together(processes: Sequence[ServerProcess], stack: ExitStack) -> None:
    """Start all, hand each to the stack, then wait for each."""
    for process in processes:
        stack.enter_context(process)
    for process in processes:
        process.wait_until_ready()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listened on a moment ago, all different."""
    with ExitStack() as stack:
        ports: list[int] = []
        for _ in range(count):
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
        return ports
