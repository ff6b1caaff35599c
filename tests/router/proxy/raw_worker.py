"""A worker under a test's control: it answers with the bytes it is told to, and keeps what it got.

One script runs per connection. It reads requests, writes what it likes where it likes, and hears
of the end; the server itself adds nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable

PATIENCE_S = 30.0
"""Longest wait for anything in these tests; reached only when one fails."""

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


class Received:
    """One request, byte for byte."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.raw = head + body
        self.body = body
        self.request_line, *self.lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")

    def values(self, name: bytes) -> list[bytes]:
        """Of all fields of that (lower case) name."""
        fields = [line.partition(b": ") for line in self.lines]
        return [value for field, _, value in fields if field.lower() == name]

    def value(self, name: bytes) -> bytes:
        """Of the only field of that name."""
        (value,) = self.values(name)
        return value


class WorkerConnection:
    """One connection of the router, as its script sees it."""

    def __init__(
        self, worker: RawWorker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._worker = worker
        self._reader = reader
        self.writer = writer
        self.num_bytes_sent = 0

    async def request(self) -> Received:
        """The next request. Raises IncompleteReadError when the connection ends instead."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        received = Received(head, b"")
        length = int(received.value(b"content-length"))
        received = Received(head, await self._reader.readexactly(length))
        self._worker.requests.append(received)
        return received

    async def send(self, data: bytes) -> None:
        """Write, and wait until the kernel has taken it."""
        self.writer.write(data)
        await self.writer.drain()
        self.num_bytes_sent += len(data)

    async def serve(self, answer: bytes) -> None:
        """Answer every request alike until the router closes."""
        while True:
            await self.request()
            await self.send(answer)

    async def gone(self) -> None:
        """Until the router has closed or reset this connection."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while await self._reader.read(65536):
                    pass
        except ConnectionError:
            return

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """End it with RST."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[WorkerConnection], Awaitable[None]]


def answering(data: bytes) -> Script:
    """A worker that keeps connections, and answers all requests with these bytes."""
    return lambda connection: connection.serve(data)


def answering_once(*parts: bytes) -> Script:
    """Answers one request with these bytes, each part by itself, then closes."""

    async def script(connection: WorkerConnection) -> None:
        await connection.request()
        for part in parts:
            await connection.send(part)

    return script


def in_turn(*scripts: Script) -> Script:
    """The first connection gets the first script, and so on; the last serves all others."""
    left = list(scripts)

    async def script(connection: WorkerConnection) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(connection)

    return script


class RawWorker:
    """Owned by a fixture; `start` and `stop`."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or answering(OK)
        self.requests: list[Received] = []
        self.connections: list[WorkerConnection] = []
        self.port = 0
        self.is_tls = False
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http{'s' if self.is_tls else ''}://127.0.0.1:{self.port}"

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        self.is_tls = context is not None
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", self.port, ssl=context, limit=1 << 20
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        for connection in self.connections:
            connection.writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = WorkerConnection(self, reader, writer)
        self.connections.append(connection)
        try:
            await self.script(connection)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the router went, or the test is over
        finally:
            writer.close()
            self._tasks.discard(task)
