"""A client under a test's control: it sends bytes, and reads answers with a parser not ours."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any

import h11

from tests.router.proxy.raw_worker import PATIENCE_S

CHAT = "/v1/chat/completions"


def post(
    body: bytes = b'{"model":"m"}',
    *,
    path: str = CHAT,
    version: str = "1.1",
    fields: bytes = b"",
) -> bytes:
    """A sound request; `fields` are more header lines, each with its CRLF."""
    return b"POST %b HTTP/%b\r\nHost: router\r\n%bContent-Length: %d\r\n\r\n%b" % (
        path.encode(),
        version.encode(),
        fields,
        len(body),
        body,
    )


def get(path: str, *, fields: bytes = b"") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: router\r\n%b\r\n" % (path.encode(), fields)


class Answer:
    """One whole answer."""

    def __init__(self, head: h11.Response, body: bytes) -> None:
        self.status = head.status_code
        self.http_version = head.http_version
        self.fields = [(bytes(name), bytes(value)) for name, value in head.headers]
        self.body = body

    def values(self, name: bytes) -> list[bytes]:
        return [value for field, value in self.fields if field == name]

    def value(self, name: bytes) -> bytes:
        (value,) = self.values(name)
        return value

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """In OpenAI's shape."""
        assert self.value(b"content-type") == b"application/json"
        error: dict[str, Any] = self.json()["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert error["message"]
        return error


class BrokenAnswer(Exception):
    """What came is no whole answer; the message says how far it came."""


class RawClient:
    """One connection to the router."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._unread = b""

    @classmethod
    async def connect(
        cls,
        port: int,
        *,
        context: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
    ) -> RawClient:
        """`receive_buffer`: bytes the kernel keeps for a client that does not read."""
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        host = None if context is None else "127.0.0.1"
        return cls(*await asyncio.open_connection(sock=sock, ssl=context, server_hostname=host))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def ask(self, data: bytes) -> Answer:
        """Send one request, read its answer."""
        self.send(data)
        return await self.answer()

    async def read(self) -> bytes:
        """What comes next; empty: the end. Raises ConnectionError when it is a reset."""
        unread, self._unread = self._unread, b""
        if unread:
            return unread
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.read(1 << 20)

    async def read_until(self, end: bytes) -> bytes:
        """Bytes up to and including `end`; the rest stays. Raises BrokenAnswer."""
        data = bytearray()
        found = -1
        while found < 0:
            more = await self.read()
            if not more:
                raise BrokenAnswer(f"the connection ended after {bytes(data)!r}")
            start = max(0, len(data) - len(end))
            data += more
            found = data.find(end, start)
        stop = found + len(end)
        self._unread = bytes(data[stop:])
        return bytes(data[:stop])

    async def read_all(self) -> bytes:
        """Everything up to the end of the connection, whether closed or reset."""
        data = b""
        try:
            while more := await self.read():
                data += more
        except ConnectionError:
            pass
        return data

    async def answer(self, method: str = "POST") -> Answer:
        """The next answer, 1xx left out. Raises BrokenAnswer when it is not whole.

        `method` says how to read it: one to a HEAD has no body, whatever its length says.
        """
        parser = h11.Connection(h11.CLIENT)
        method = method if method in ("GET", "HEAD") else "POST"
        parser.send(h11.Request(method=method, target="/", headers=[("host", "router")]))
        parser.send(h11.EndOfMessage())
        head: h11.Response | None = None
        body = b""
        while True:
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError as error:
                raise BrokenAnswer(f"{error}; head: {head}, body: {body!r}") from error
            if event is h11.NEED_DATA:
                try:
                    parser.receive_data(await self.read())
                except ConnectionError as error:
                    raise BrokenAnswer(f"reset; head: {head}, body: {body!r}") from error
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                self._unread, _ = parser.trailing_data
                assert head is not None
                return Answer(head, body)
            elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                raise BrokenAnswer(f"the connection ended; head: {head}, body: {body!r}")

    async def ended(self) -> bool:
        """Whether the router has closed the connection, without another byte."""
        return await self.read_all() == b""

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Gone, as when the client's process is killed with data unread."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


async def until(condition: Callable[[], object]) -> None:
    """Wait for something to become true that another coroutine or a socket brings about."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
