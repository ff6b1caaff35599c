"""One life of an engine-core process, seen from asyncio: started, talked to, seen to end.

The socket lies in a new folder that only this user can enter. The folder goes when the core has
connected: nobody else is to, and so not even a `kill -9` of both processes leaves it behind.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Sequence

import zmq
import zmq.asyncio

from . import protocol

CORE_COMMAND = (sys.executable, "-m", "shoal.engine.core_process")
"""The program of the engine core; it is given the endpoint and our pid."""

CORE_ENVIRONMENT = {"OMP_WAIT_POLICY": "passive"}
"""Defaults for the core's environment. Torch's threads wait for each other some thousand times a
second. OpenMP's default is to spin, against whoever has the missing thread's CPU: with a busy
neighbour on two cores a small matmul took 16 ms instead of 0.8 (docs/performance), and on an
idle machine sleeping costs next to nothing."""

FAILED = 1
"""Exit status of a core that met an exception, and says which."""

LAST_WORDS_S = 1.0
"""How long after its end to look for messages that a core sent before it."""


class CoreClient:
    """Use: `launch`, then `run` until it returns; `send` and `kill` meanwhile; `close` at last."""

    def __init__(
        self,
        process: Process,
        *,
        context: zmq.asyncio.Context,
        socket: zmq.asyncio.Socket,
        folder: str,
    ) -> None:
        self.fatal: protocol.Fatal | None = None
        """The exception that ended the core, if it could still tell."""
        self._process = process
        self._context = context
        self._socket = socket
        self._folder = folder
        self._killed_because: str | None = None

    @classmethod
    async def launch(cls, command: Sequence[str]) -> CoreClient:
        """Start the process; it says Hello when it is there."""
        folder = tempfile.mkdtemp(prefix="shoal-core-")  # mode 0700
        context = zmq.asyncio.Context()
        try:
            socket = context.socket(zmq.PAIR)
            # Unbounded, for neither side may block the other. What lies here is bounded by the
            # requests in flight.
            socket.set(zmq.SNDHWM, 0)
            socket.set(zmq.RCVHWM, 0)
            endpoint = f"ipc://{folder}/core"
            socket.bind(endpoint)
            process = await asyncio.create_subprocess_exec(
                *command,
                endpoint,
                str(os.getpid()),
                stdin=DEVNULL,
                env={**CORE_ENVIRONMENT, **os.environ},
                # Not in the terminal's foreground group: Ctrl-C is ours, so that we can drain.
                start_new_session=True,
            )
        except BaseException:
            context.destroy(linger=0)
            shutil.rmtree(folder)
            raise
        return cls(process, context=context, socket=socket, folder=folder)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, frame: bytes) -> None:
        """Hand an encoded message over; does not wait. A core that has died does not mind."""
        self._socket.send(frame)

    async def run(self, on_message: Callable[[protocol.FromCore], None]) -> str:
        """Deliver messages until the process ends; returns how it ended, for people.

        Raises what `on_message` raises: that is a fault of ours, not of the core.
        """
        receiving = asyncio.create_task(self._receive(on_message))
        exiting = asyncio.create_task(self._process.wait())
        try:
            await asyncio.wait((receiving, exiting), return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                receiving.result()
        finally:
            for task in (receiving, exiting):
                task.cancel()
            await asyncio.gather(receiving, exiting, return_exceptions=True)
        if self._process.returncode == FAILED:
            await self._hear_last_words()
        return self._how_it_ended()

    async def _receive(self, on_message: Callable[[protocol.FromCore], None]) -> None:
        while True:
            message = protocol.decode_from_core(await self._socket.recv())
            if isinstance(message, protocol.Fatal):
                self.fatal = message
                continue
            if isinstance(message, protocol.Hello):
                shutil.rmtree(self._folder)
            on_message(message)

    async def _hear_last_words(self) -> None:
        """Look for a Fatal; steps are not delivered any more, their requests fail anyway."""
        while self.fatal is None and await self._socket.poll(LAST_WORDS_S * 1e3):
            message = protocol.decode_from_core(await self._socket.recv())
            if isinstance(message, protocol.Fatal):
                self.fatal = message

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
            self._context.destroy(linger=0)
            shutil.rmtree(self._folder, ignore_errors=True)
