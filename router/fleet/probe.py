"""GET over one keep-alive connection to one worker: what health checks and scrapes cost.

A client for a thousand workers a second: one `asyncio.Protocol` and one llhttp parser a worker,
requests written from bytes that were made once. No redirects, no cookies, no compression.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Callable
from typing import NamedTuple, cast

import httptools

from .address import Address

MAX_BODY_BYTES = 16 * 1024 * 1024


class ProbeError(Exception):
    """No answer; the message says why in a few words."""

    def __init__(self, message: str, *, is_refused: bool = False) -> None:
        super().__init__(message)
        self.is_refused = is_refused
        """Nobody listens there: the process is gone."""


class Answer(NamedTuple):
    """Of one GET."""

    status: int
    body: bytes


class Probe:
    """Owns the connection; one request at a time."""

    def __init__(
        self,
        address: Address,
        *,
        tls: ssl.SSLContext | None,
        api_key: str | None,
        on_closed: Callable[[], None],
    ) -> None:
        """`on_closed`: the worker closed a connection on which nothing was asked."""
        self._address = address
        self._tls = tls if address.scheme == "https" else None
        authorization = f"Authorization: Bearer {api_key}\r\n" if api_key else ""
        self._tail = (
            f" HTTP/1.1\r\nHost: {address.authority}\r\nUser-Agent: shoal-router\r\n"
            f"Accept: */*\r\n{authorization}\r\n"
        ).encode()
        self._on_closed = on_closed
        self._connection: _Connection | None = None

    async def get(self, path: str, *, timeout_s: float) -> Answer:
        """The whole answer within `timeout_s`, connecting included. Raises ProbeError."""
        message = b"GET " + (self._address.path + path).encode() + self._tail
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        connection: _Connection | None = self._connection
        if connection is not None and connection.is_open:
            try:
                return await connection.ask(message, deadline)
            except _ClosedUnused:
                pass  # the worker closed it just as we asked; that tells nothing about its health
        self._connection = connection = await self._connect(timeout_s)
        try:
            return await connection.ask(message, deadline)
        except _ClosedUnused:
            raise ProbeError("closed the connection without an answer") from None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    async def _connect(self, timeout_s: float) -> _Connection:
        address = self._address
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    functools.partial(_Connection, self._on_closed),
                    address.host,
                    address.port,
                    ssl=self._tls,
                    server_hostname=address.host if self._tls is not None else None,
                )
        except TimeoutError:
            raise ProbeError(f"no connection within {timeout_s:g} s") from None
        except ssl.SSLError as error:
            raise ProbeError(f"TLS: {error.reason or error}") from None
        except OSError as error:
            refused = isinstance(error, ConnectionRefusedError)
            reason = error.strerror or str(error)
            raise ProbeError(f"cannot connect: {reason}", is_refused=refused) from None
        return connection


class _ClosedUnused(Exception):
    """The connection closed before a byte of an answer."""


class _Connection(asyncio.Protocol):
    """One connection; also the callbacks of its parser."""

    def __init__(self, on_closed: Callable[[], None]) -> None:
        self._on_closed = on_closed
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Answer] | None = None
        self._pieces: list[bytes] = []
        self._num_bytes = 0
        self._has_bytes = False
        self._has_head = False
        self._is_delimited = False
        self._closed_by_us = False

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, message: bytes, deadline: float) -> Answer:
        """Raises ProbeError, or _ClosedUnused."""
        assert self._transport is not None
        assert self._waiter is None
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Answer] = loop.create_future()
        self._waiter = waiter
        self._pieces, self._num_bytes = [], 0
        self._has_bytes = self._has_head = self._is_delimited = False
        timer = loop.call_at(deadline, self._fail, ProbeError("no answer in time"))
        self._transport.write(message)
        try:
            return await waiter
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            timer.cancel()
            self._waiter = None

    def abort(self) -> None:
        self._closed_by_us = True
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, error: Exception) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        self.abort()

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._has_bytes = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(ProbeError("answered with an upgrade"))
        except httptools.HttpParserError:
            self._fail(ProbeError("answered with something that is not HTTP"))

    def connection_lost(self, exc: Exception | None) -> None:
        waiter = self._waiter
        if waiter is None:
            if not self._closed_by_us:
                self._on_closed()
        elif not waiter.done():
            if self._has_head and exc is None and not self._is_delimited:
                # Without a length the answer ends where the connection does.
                self.on_message_complete()
            elif self._has_bytes:
                waiter.set_exception(ProbeError("closed the connection within an answer"))
            else:
                waiter.set_exception(_ClosedUnused())

    # From the parser.

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._is_delimited = True

    def on_headers_complete(self) -> None:
        self._has_head = True

    def on_body(self, data: bytes) -> None:
        self._num_bytes += len(data)
        if self._num_bytes > MAX_BODY_BYTES:
            self._fail(ProbeError(f"answered with more than {MAX_BODY_BYTES} bytes"))
        else:
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            self.abort()  # an answer that nobody asked for
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._has_head = False
            return
        waiter.set_result(Answer(status, b"".join(self._pieces)))
        if not self._parser.should_keep_alive() and self._transport is not None:
            self._closed_by_us = True
            self._transport.close()
