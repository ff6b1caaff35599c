"""Real processes for these tests: each is one `shoal` command, and none outlives the tests."""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
PATIENCE_S = 40.0
"""For what takes a second on a machine that has nothing else to do."""


def until(look: Callable[[], T | None], what: str, timeout_s: float = PATIENCE_S) -> T:
    """The first true answer of `look`; fails with `what` when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        if found := look():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(0.01)


class Program:
    """One running command."""

    def __init__(self, pid: int, log: Path) -> None:
        self.pid = pid
        self.log = log
        self._pidfd = os.pidfd_open(pid)
        self._is_closed = False

    def said(self) -> str:
        """What it has written so far."""
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""

    @property
    def has_ended(self) -> bool:
        return self._is_closed or bool(select.select([self._pidfd], [], [], 0)[0])

    def signal(self, number: signal.Signals) -> None:
        if not self.has_ended:
            signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """kill -9, and gone when this returns."""
        self.signal(signal.SIGKILL)
        until(lambda: self.has_ended, f"the end of process {self.pid}")

    def ended(self, timeout_s: float = PATIENCE_S) -> int:
        """Its exit status, once it has one; negative: the signal that killed it."""
        status = Path(f"{self.log}.status")
        until(lambda: status.exists() and status.read_text(), f"an end of {self.log}", timeout_s)
        return int(status.read_text(encoding="ascii"))

    def close(self) -> None:
        """Again does no harm."""
        if not self._is_closed:
            self.kill()
            self._is_closed = True
            os.close(self._pidfd)


class Nursery:
    """Where programs come from; `close` ends all that are left."""

    def __init__(self, folder: Path, *preloaded: str) -> None:
        """`preloaded`: modules that its programs need, beside those that all need."""
        self.folder = folder
        self._numbers = itertools.count(1)
        script = Path(__file__).with_name("nursery_process.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(os.getpid()), *preloaded],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
        )

    def start(self, *argv: str) -> Program:
        log = self.folder / f"{next(self._numbers)}-{argv[0]}.log"
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"argv": argv, "log": str(log)}) + "\n")
        self._process.stdin.flush()
        return Program(int(self._process.stdout.readline()), log)

    def run(self, *argv: str) -> str:
        """A command to its good end; what it wrote."""
        program = self.start(*argv)
        assert program.ended() == 0, program.said()
        program.close()
        return program.said()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=PATIENCE_S)
