"""One life of a data-plane process, seen from asyncio: started, talked to, seen to end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from shoal.frames import FrameProtocol, with_length

from ..messages import Ask, Drain, FromDataPlane, FromState, PeerDelta, Ready, Report

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(FromDataPlane).decode

FINAL_REPORT = 0
"""Number of the report that nobody asked for: the metrics of a process that has drained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a data-plane process may take for what."""

    ready_s: float = 20.0
    """From its start to `Ready`."""
    stalled_s: float = 10.0
    """For the answer to a ping."""
    ping_interval_s: float = 1.0
    grace_s: float = 2.0
    """Beyond its drain timeout, before it is killed."""
    stable_s: float = 30.0
    """One that lived so long has recovered: the crashes before it are forgotten."""
    first_delay_s: float = 0.1
    """Before the second restart in a row (the first is at once); doubles with each."""
    max_delay_s: float = 5.0


MAX_UNREAD_BYTES = 256 * 1024 * 1024
"""Held for a process that does not read. The prefix caches of a large fleet are 10 MB; more than
this in ten seconds is not read at all."""


class Child:
    """Use: `launch`, then `run` until it returns; `send`, `ask`, `drain` and `kill` meanwhile."""

    def __init__(self, number: int, process: Process, timing: Timing) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.started_at = loop.time()
        self.is_ready = False
        self.is_draining = False
        self.ready_or_ended = asyncio.Event()
        self.ended = asyncio.Event()
        self._loop = loop
        self._process = process
        self._timing = timing
        self._frames: FrameProtocol
        self._transport: asyncio.Transport
        self._on_delta: Callable[[Child, PeerDelta], None] | None = None
        self._on_metrics: Callable[[Child, Any], None] | None = None
        self._questions: dict[int, asyncio.Future[Any]] = {}
        self._num_asked = FINAL_REPORT
        self._ping: tuple[int, float] | None = None
        self._killed_because: str | None = None

    @classmethod
    async def launch(
        cls,
        command: Sequence[str],
        number: int,
        listeners: Sequence[socket.socket],
        timing: Timing,
        *,
        on_delta: Callable[[Child, PeerDelta], None],
        on_metrics: Callable[[Child, Any], None],
    ) -> Child:
        """Start a process. Raises OSError when the system does not let us."""
        ours, theirs = socket.socketpair()
        fds = (theirs.fileno(), *(listener.fileno() for listener in listeners))
        arguments = ["--link", str(fds[0]), "--process", str(number), "--parent", str(os.getpid())]
        for fd in fds[1:]:
            arguments += ["--listen", str(fd)]
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                *arguments,
                stdin=DEVNULL,
                pass_fds=fds,
                # Not in the terminal's foreground group: Ctrl-C is ours, so that we can drain.
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self = cls(number, process, timing)
        self._on_delta, self._on_metrics = on_delta, on_metrics
        ours.setblocking(False)
        try:
            self._transport, self._frames = await self._loop.create_unix_connection(
                lambda: FrameProtocol(self._take), sock=ours
            )
        except BaseException:  # we are to end: leave no process that nobody knows
            ours.close()
            process.kill()
            await process.wait()
            raise
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    async def run(self) -> None:
        """Until the process has ended and what it sent has been heard."""
        exiting = asyncio.ensure_future(self._process.wait())
        try:
            while not exiting.done():
                await asyncio.wait({exiting}, timeout=self._timing.ping_interval_s)
                self._check_alive()
            with contextlib.suppress(TimeoutError):  # a grandchild may hold the other end
                await asyncio.wait_for(self._frames.closed.wait(), 1.0)
        finally:
            exiting.cancel()
            if self._process.returncode is None:
                self.kill("the router ends")
            self._transport.abort()
            self.ended.set()
            self.ready_or_ended.set()
            for question in self._questions.values():
                question.cancel()

    def send(self, message: FromState) -> None:
        self.send_frame(with_length(_encode(message)))

    def send_frame(self, frame: bytes) -> None:
        """Hand over an encoded message with its length; does not wait."""
        if self._transport.is_closing():  # it has ended, or is about to
            return
        self._transport.write(frame)
        if self._transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self.kill("it does not read what it is told")

    async def ask(self, what: str, limit: int, timeout_s: float) -> Any:
        """The body of its report. Raises TimeoutError, also when it ends meanwhile."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        number = self._send_question(what, limit)
        self._questions[number] = answer
        try:
            return await asyncio.wait_for(answer, timeout_s)
        except asyncio.CancelledError:
            if answer.cancelled() and self.ended.is_set():
                raise TimeoutError(f"process {self.number} ended") from None
            raise
        finally:
            del self._questions[number]

    def drain(self, timeout_s: float) -> None:
        """Have it finish and end; it is killed when it takes longer."""
        self.is_draining = True
        self.send(Drain(timeout_s))
        self._loop.call_later(
            timeout_s + self._timing.grace_s, self.kill, "it did not end after its drain timeout"
        )

    def kill(self, because: str) -> None:
        if self._process.returncode is None:
            self._killed_because = self._killed_because or because
            self._process.kill()

    def how_it_ended(self) -> str:
        """For people."""
        status = self._process.returncode
        if self._killed_because is not None:
            return f"it was killed: {self._killed_because}"
        if status == -signal.SIGKILL:
            return "signal SIGKILL; if nobody sent it, memory ran out"
        if status is not None and status < 0:
            return f"signal {signal.Signals(-status).name}"
        return f"exit status {status}"

    def _check_alive(self) -> None:
        now = self._loop.time()
        if not self.is_ready:
            if now - self.started_at > self._timing.ready_s:
                self.kill(f"it was not ready after {self._timing.ready_s:g} s")
        elif self._ping is None:
            self._ping = self._send_question("ping", 0), now
        elif now - self._ping[1] > self._timing.stalled_s:
            self.kill(f"it answered nothing for {self._timing.stalled_s:g} s")

    def _send_question(self, what: str, limit: int) -> int:
        self._num_asked += 1
        self.send(Ask(number=self._num_asked, what=what, limit=limit))
        return self._num_asked

    def _take(self, frame: bytes) -> None:
        try:
            message = _decode(frame)
        except msgspec.MsgspecError as error:
            self.kill(f"it sent what we do not understand: {error}")
            return
        if isinstance(message, PeerDelta):
            if self._on_delta is not None:
                self._on_delta(self, message)
        elif isinstance(message, Ready):
            self.is_ready = True
            self.ready_or_ended.set()
        else:
            self._take_report(message)

    def _take_report(self, report: Report) -> None:
        if self._ping is not None and report.number == self._ping[0]:
            self._ping = None
        elif report.number == FINAL_REPORT:
            if self._on_metrics is not None:
                self._on_metrics(self, report.body)
        elif (question := self._questions.get(report.number)) is not None and not question.done():
            question.set_result(report.body)
