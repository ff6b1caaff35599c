"""One life of an engine-core process, seen from asyncio: started, talked to, seen to end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Sequence

from shoal.frames import FrameProtocol, with_length

from . import protocol

CORE_COMMAND = (sys.executable, "-m", "shoal.engine.core_process")
"""The program of the engine core; it is given the number of its socket and our pid."""

CORE_ENVIRONMENT = {"OMP_WAIT_POLICY": "passive"}
"""Defaults for the core's environment. Torch's threads wait for each other some thousand times a
second. OpenMP's default is to spin, against whoever has the missing thread's CPU: with a busy
neighbour on two cores a small matmul took 16 ms instead of 0.8 (docs/performance), and on an
idle machine sleeping costs next to nothing."""

FAILED = 1
"""Exit status of a core that met an exception, and says which."""

LAST_WORDS_S = 1.0
"""How long after its end to look for messages that a core sent before it."""

OnMessage = Callable[[protocol.FromCore], None]


class CoreClient:
    """Use: `launch`, then `run` until it returns; `send` and `kill` meanwhile; `close` at last."""

    def __init__(self, process: Process, sock: socket.socket) -> None:
        self.fatal: protocol.Fatal | None = None
        """The exception that ended the core, if it could still tell."""
        self._process = process
        self._socket = sock
        self._frames = FrameProtocol(self._take)
        self._on_message: OnMessage | None = None
        self._fault: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._killed_because: str | None = None

    @classmethod
    async def launch(cls, command: Sequence[str]) -> CoreClient:
        """Start the process; it says Hello when it is there."""
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                str(theirs.fileno()),
                str(os.getpid()),
                stdin=DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={**CORE_ENVIRONMENT, **os.environ},
                # Not in the terminal's foreground group: Ctrl-C is ours, so that we can drain.
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(process, ours)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, frame: bytes) -> None:
        """Hand an encoded message over; does not wait. A core that has died does not mind."""
        if self._frames.transport is not None:
            self._frames.transport.write(with_length(frame))

    async def run(self, on_message: OnMessage) -> str:
        """Deliver messages until the process ends; returns how it ended, for people.

        Raises what `on_message` raises: that is a fault of ours, not of the core.
        """
        self._on_message = on_message
        loop = asyncio.get_running_loop()
        self._socket.setblocking(False)
        await loop.create_unix_connection(lambda: self._frames, sock=self._socket)
        exiting = asyncio.create_task(self._process.wait())
        try:
            await asyncio.wait((exiting, self._fault), return_when=asyncio.FIRST_COMPLETED)
            if self._fault.done():
                self._fault.result()
        finally:
            # Steps of a core that has ended are not delivered: their requests fail anyway.
            self._on_message = None
            exiting.cancel()
            await asyncio.gather(exiting, return_exceptions=True)
        if self._process.returncode == FAILED:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._frames.closed.wait(), LAST_WORDS_S)
        return self._how_it_ended()

    def _take(self, frame: bytes) -> None:
        try:
            message = protocol.decode_from_core(frame)
            if isinstance(message, protocol.Fatal):
                self.fatal = message
            elif self._on_message is not None:
                self._on_message(message)
        except Exception as error:
            self._on_message = None
            if not self._fault.done():
                self._fault.set_exception(error)

    def _how_it_ended(self) -> str:
        status = self._process.returncode
        assert status is not None
        if self._killed_because is not None:
            return f"it was killed because {self._killed_because}"
        if status == -signal.SIGKILL:
            return "signal SIGKILL; if nobody sent it, memory ran out"
        if status < 0:
            return f"signal {signal.Signals(-status).name}"
        if self.fatal is None:
            return f"exit status {status}"
        return f"exit status {status}, {self.fatal.error}: {self.fatal.message}"

    def kill(self, because: str) -> None:
        """End a process that hangs; `run` returns soon after."""
        if self._process.returncode is None:
            self._killed_because = because
            self._process.kill()

    async def close(self, *, grace_s: float = 0.0) -> None:
        """End the process, with force after `grace_s`, and close the socket."""
        try:
            if self._process.returncode is None:
                self._process.terminate()
                try:
                    await asyncio.wait_for(self._process.wait(), grace_s)
                except TimeoutError:
                    self._process.kill()
            await self._process.wait()
        finally:
            self._fault.cancel()
            if self._frames.transport is not None:
                self._frames.transport.abort()
            self._socket.close()
