"""One HTTP/1.1 connection of a load: cheap enough for thousands, exact about how answers end.

An answer is complete only when its framing says so: a connection that closes in the middle of a
chunked body is a cut answer, whatever had arrived by then.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import cast

import httptools

HOST = "127.0.0.1"
CONNECT_TIMEOUT_S = 5.0


@dataclass(slots=True)
class Answer:
    """What came back. Times are on `time.perf_counter`."""

    sent_at: float
    status: int = 0
    """0: not even a head."""
    first_at: float = 0.0
    """When the first bytes of the body came."""
    ended_at: float = 0.0
    complete: bool = False
    problem: str | None = None
    """Why it is not complete."""
    event_times: list[float] = field(default_factory=list)
    """One for each read that brought events of a stream."""
    num_events: int = 0
    parts: list[bytes] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.complete and self.status == 200

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    @property
    def seconds(self) -> float:
        return self.ended_at - self.sent_at


class Client:
    """One keep-alive client: requests one after another, over a connection opened when needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._wire: _Wire | None = None

    async def ask(self, request: bytes, *, timeout_s: float) -> Answer:
        """Send a request and wait for its end. Never raises for what the other side does."""
        answer = Answer(sent_at=time.perf_counter())
        try:
            async with asyncio.timeout(timeout_s):
                if self._wire is None or self._wire.closed:
                    self._wire = await self._connect()
                await self._wire.exchange(request, answer)
        except TimeoutError:
            answer.problem = "no end of the answer in time"
        except OSError as error:
            answer.problem = f"cannot connect: {error}"
        answer.ended_at = answer.ended_at or time.perf_counter()
        if not answer.complete:
            self.close()
        return answer

    @property
    def is_open(self) -> bool:
        """Whether the connection of the last request is still there."""
        return self._wire is not None and not self._wire.closed

    async def _connect(self) -> _Wire:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, wire = await loop.create_connection(_Wire, HOST, self._port)
        return wire

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None


class _Wire(asyncio.Protocol):
    """One TCP connection, from its opening to its end."""

    def __init__(self) -> None:
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._done: asyncio.Future[None] | None = None

    async def exchange(self, request: bytes, answer: Answer) -> None:
        assert self._transport is not None
        self._answer, self._parser = answer, httptools.HttpResponseParser(self)
        self._done = asyncio.get_running_loop().create_future()
        answer.sent_at = time.perf_counter()
        self._transport.write(request)
        try:
            await self._done
        finally:
            self._answer = self._done = None

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            self.close()  # bytes that nobody asked for
            return
        num_before = answer.num_events
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"not HTTP: {error}")
            self.close()
        if answer.num_events != num_before:
            answer.event_times.append(time.perf_counter())

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._end(f"connection closed{f': {exc}' if exc else ''}")

    # httptools

    def on_headers_complete(self) -> None:
        if self._answer is not None:
            self._answer.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        answer = self._answer
        if answer is None:
            return
        if not answer.parts:
            answer.first_at = time.perf_counter()
        answer.parts.append(body)
        answer.num_events += body.count(b"data: ")

    def on_message_complete(self) -> None:
        if self._answer is not None:
            self._answer.complete = True
        if not self._parser.should_keep_alive():
            self.close()
        self._end(None)

    def _end(self, problem: str | None) -> None:
        """The answer is as it is now."""
        if self._answer is not None and self._answer.ended_at == 0.0:
            self._answer.ended_at = time.perf_counter()
            self._answer.problem = problem
        if self._done is not None and not self._done.done():
            self._done.set_result(None)
