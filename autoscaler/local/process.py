"""One worker process: started, heard, ended.

The program is given two numbers, a pipe and our process id, and its order on stdin, when there is
one: until then it may do all that needs none. It writes one line of JSON into the pipe when it
serves, with the `port` it serves on. It must not outlive us: it asks the kernel to be killed with
its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE, STDOUT, Process
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

_MAX_LINE_BYTES = 8192
"""Of a log line; what is longer is told in parts."""
_KEPT_LINES = 20
_TOLD_LINES = 3
_MAX_TOLD = 600
_READY_BYTES = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to start a worker."""

    command: Sequence[str]
    order: bytes = field(repr=False)
    """To its stdin: it may hold a key, which other users could read on a command line."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Over ours."""


class Loaded(msgspec.Struct):
    """What a worker says when it serves; it may say more."""

    port: int


class WorkerProcess:
    """Use: `spawn`, `order`, then `wait_loaded` and `wait_ended`; `terminate` and `kill` at any
    time."""

    def __init__(self, process: Process, loaded: asyncio.StreamReader) -> None:
        self._process = process
        self._loaded = loaded
        self._on_line: Callable[[str], None] = lambda line: None
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._reading = asyncio.create_task(self._read_log())

    @classmethod
    async def spawn(cls, launch: Launch) -> WorkerProcess:
        """Start it; it has no order yet. Raises OSError."""
        ours, theirs = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *launch.command,
                str(theirs),
                str(os.getpid()),
                stdin=PIPE,
                stdout=PIPE,
                stderr=STDOUT,
                pass_fds=(theirs,),
                env={**os.environ, **launch.environment},
                start_new_session=True,  # Ctrl-C is our business: we drain first
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        reader = asyncio.StreamReader(limit=_READY_BYTES)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours, "rb", 0)
        )
        return cls(process, reader)

    async def order(self, order: bytes, on_line: Callable[[str], None]) -> None:
        """Say what it is to do, once. `on_line` hears what it writes to stdout and stderr from now
        on."""
        self._on_line = on_line
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(ConnectionError):  # it has ended; we hear of that
            stdin.write(order)
            await stdin.drain()
        stdin.close()

    @property
    def has_ended(self) -> bool:
        return self._process.returncode is not None

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait_loaded(self) -> int | None:
        """The port that it serves on; None: it ended, or said something else."""
        try:
            line = await self._loaded.readline()
            return msgspec.json.decode(line, type=Loaded).port
        except (ValueError, msgspec.MsgspecError):
            return None

    async def wait_ended(self) -> str:
        """How it ended, with its last words."""
        status = await self._process.wait()
        # A grandchild may hold the pipe open for a moment.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._reading, 1.0)
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        words = " | ".join(list(self._lines)[-_TOLD_LINES:])
        return f"{how}: {words[-_MAX_TOLD:]}" if words else how

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def _read_log(self) -> None:
        assert self._process.stdout is not None
        rest = b""
        while chunk := await self._process.stdout.read(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _MAX_LINE_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._hear(line)
        self._hear(rest)

    def _hear(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").strip()
        if text:
            self._lines.append(text)
            self._on_line(text)
