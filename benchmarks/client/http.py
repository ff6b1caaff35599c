"""A streaming HTTP/1.1 client that costs microseconds a chunk: httptools on an asyncio Protocol.

No task wakes up for a chunk: bytes go from the socket through the parser into the `Answer`, stamped
once per read. Connections are kept alive and reused for as long as servers surely keep them too.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
import time
from typing import cast
from urllib.parse import urlsplit

import httptools

from shoal.errors import ConfigError

from .answer import Answer

CONNECT_TIMEOUT_S = 10.0
MAX_IDLE_S = 2.0
"""uvicorn closes after 5 s of silence; a reused connection must not race with that."""

OUR_LIMITS = {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS}
"""No more sockets or ports on this machine: nothing that the server could help."""


class Connection(asyncio.Protocol):
    """One connection, one request at a time. `done` resolves when the answer has ended."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._done: asyncio.Future[None] | None = None
        self._content_type = b""
        self._has_length = False
        self._ends_with_connection = False
        """Whether the body has no length of its own: it ends where the connection does."""
        self._now = 0.0
        self.saw_bytes = False
        """Whether anything of the present answer has come."""
        self.reusable = True
        self.idle_since = 0.0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._now = time.perf_counter()
        self.saw_bytes = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if self._answer is not None:
                self._answer.fail("bad_http", f"not an HTTP/1.1 response: {error}")
            self.close()
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        if self._answer is not None and exc is None and self._ends_with_connection:
            self._answer.on_complete()
        elif self._answer is not None:
            kind = "cut_stream" if self._answer.first_s is not None else "disconnect"
            self._answer.fail(kind, f"the server closed the connection ({exc or 'end of file'})")
        self._end()

    # httptools callbacks

    def on_message_begin(self) -> None:
        self._content_type = b""
        self._has_length = False
        self._ends_with_connection = False

    def on_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"content-type":
                self._content_type = value.lower()
            case b"content-length" | b"transfer-encoding":
                self._has_length = True

    def on_headers_complete(self) -> None:
        self._ends_with_connection = not self._has_length
        if self._answer is not None:
            self._answer.on_headers(self._parser.get_status_code(), self._content_type)

    def on_body(self, data: bytes) -> None:
        if self._answer is not None:
            self._answer.on_body(data, self._now)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            return  # 100 Continue and the like announce the real one
        self.reusable = self.reusable and self._parser.should_keep_alive()
        if self._answer is not None:
            self._answer.on_complete()
        self._end()

    # use

    def send(self, request: bytes, answer: Answer) -> asyncio.Future[None]:
        """Write a request; the future resolves when its answer has ended, well or not."""
        if self._transport is None or self._done is not None:
            raise RuntimeError("a connection carries one request at a time")
        self._answer, self.saw_bytes = answer, False
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._done

    def close(self) -> None:
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def _end(self) -> None:
        done, self._done, self._answer = self._done, None, None
        self.idle_since = time.perf_counter()
        if done is not None and not done.done():
            done.set_result(None)


class HTTPClient:
    """POST requests to one server over a pool of kept-alive connections."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        """`url` may carry a path, which is put before that of every request."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{url!r} is not an http:// or https:// URL")
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._ssl = ssl.create_default_context() if parts.scheme == "https" else None
        self._prefix = parts.path.rstrip("/")
        lines = {"Host": parts.netloc.rpartition("@")[2], "Content-Type": "application/json",
                 "Accept": "text/event-stream", **headers}  # fmt: skip
        for name, value in lines.items():
            if any(c in "\r\n\0" for c in name + value):
                raise ConfigError(f"the header {name!r} holds a line break")
        self._head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._idle: list[Connection] = []

    async def post(self, path: str, body: bytes, answer: Answer, *, request_id: str) -> None:
        """Send, and wait for the end of the answer.

        Failures end up in `answer`. Cancellation closes the connection.
        """
        request = (
            f"POST {self._prefix}{path} HTTP/1.1\r\n{self._head}X-Request-Id: {request_id}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        answer.sent_s = time.perf_counter()
        connection = self._take_idle()
        if connection is not None:
            await self._exchange(connection, request, answer)
            if connection.saw_bytes or answer.error != "disconnect":
                return
            # The server dropped the idle connection as we took it: not a failure of this request.
            answer.forget_failure()
        connection = await self._connect(answer)
        if connection is not None:
            await self._exchange(connection, request, answer)

    async def _exchange(self, connection: Connection, request: bytes, answer: Answer) -> None:
        done = connection.send(request, answer)
        try:
            await done
        finally:  # a cancelled request leaves an answer under way: its connection is of no more use
            if done.done() and connection.reusable:
                self._idle.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _take_idle(self) -> Connection | None:
        now = time.perf_counter()
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closing and now - connection.idle_since < MAX_IDLE_S:
                return connection
            connection.close()
        return None

    async def _connect(self, answer: Answer) -> Connection | None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await loop.create_connection(
                    Connection, self._host, self._port, ssl=self._ssl
                )
            return connection
        except TimeoutError:
            answer.fail("connect_timeout", f"no connection within {CONNECT_TIMEOUT_S:.0f} s")
        except OSError as error:  # refused, unreachable, unknown host, bad certificate
            kind = "client_limit" if error.errno in OUR_LIMITS else "connect"
            answer.fail(kind, str(error))
        return None
