"""One client connection: bytes in, requests out, answers back in the order they were asked.

llhttp (through httptools) decides what a request is; what it refuses, as every ambiguous framing,
is answered with 400 and the connection closes. A body is read whole, up to a bound, before the
request goes anywhere: it must be looked into, and may have to be sent twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from shoal.errors import (
    HeadersTooLarge,
    InvalidRequest,
    NoEndpoint,
    PayloadTooLarge,
    RequestError,
    RequestTimeout,
)

from .answers import error_answer
from .exchange import Exchange
from .headers import LOWER_NAMES, Headers, lower

if TYPE_CHECKING:
    from .admission import HeadMemo
    from .gateway import Gateway

_MAX_PIPELINED = 8
_OWN_FIELDS = frozenset(
    {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"expect",
        b"x-request-id",
        b"traceparent",
    }
)
"""Framing, and what differs from request to request."""


class Request:
    """A request as it was read."""

    __slots__ = (
        "arrived_at",
        "body",
        "headers",
        "http_1_0",
        "keep_alive",
        "method",
        "request_id",
        "target",
        "traceparent",
    )

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.headers: Headers = []
        """Without framing, and without the two fields below: what is left is usually the same from
        one request of a connection to the next."""
        self.request_id: bytes | None = None
        self.traceparent: bytes | None = None
        self.body = b""
        self.http_1_0 = False
        self.keep_alive = True
        self.arrived_at = 0.0
        """When its first byte was read, in seconds of the loop's clock."""


class ClientConnection(asyncio.Protocol):
    """Owned by its transport; the gateway knows it as long as that is open."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_close_after",
        "_expects",
        "_gateway",
        "_has_host",
        "_head_bytes",
        "_parser",
        "_peer",
        "_queue",
        "_reading",
        "_refused",
        "_request",
        "deadline",
        "exchange",
        "head_memo",
        "paused",
        "paused_at",
        "transport",
        "write",
    )

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._parser = httptools.HttpRequestParser(self)
        self._request: Request | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._queue: deque[Request] = deque()
        self._expects = False
        self._has_host = False
        self._refused: RequestError | None = None
        self._close_after = False
        self._reading = True
        self._peer = b""
        self.exchange: Exchange | None = None
        """The request that is being answered."""
        self.head_memo: HeadMemo | None = None
        """What the head of the latest request meant."""
        self.transport: asyncio.Transport | None = None
        self.deadline = 0.0
        """When the sweeper closes it if it has not moved on; 0: never."""
        self.paused = False
        """The client takes less than we have for it."""
        self.paused_at = 0.0

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.write = self.transport.write
        gateway = self._gateway
        self.transport.set_write_buffer_limits(high=gateway.bounds.write_buffer_bytes)
        peer = self.transport.get_extra_info("peername")
        self._peer = str(peer[0]).encode() if isinstance(peer, tuple) else b"unix"
        self.deadline = gateway.now() + gateway.bounds.header_timeout_s
        if not gateway.admit_connection(self):
            self._refuse(
                NoEndpoint(
                    "The router has as many connections as it may.",
                    code="too_many_connections",
                    retry_after_s=1.0,
                )
            )

    def data_received(self, data: bytes) -> None:
        if self._close_after:
            return
        if self._request is None and not self._queue and self.exchange is None:
            self.deadline = self._gateway.now() + self._gateway.bounds.header_timeout_s
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(InvalidRequest("This server speaks HTTP/1.1 only: no Upgrade."))
        except httptools.HttpParserCallbackError as error:
            if self._refused is None:
                raise
            del error
            self._refuse(self._refused)
        except httptools.HttpParserError:
            self._refuse(InvalidRequest("That is no HTTP request.", code="invalid_http"))
        else:
            if (
                self._request is not None
                and self._head_bytes > self._gateway.bounds.max_header_bytes
                and not self._body_bytes
                and not self._request.arrived_at
            ):
                self._refuse(self._headers_too_large())

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._queue.clear()
        self._gateway.connections.discard(self)
        if self.exchange is not None:
            self.exchange.client_gone()

    def pause_writing(self) -> None:
        self.paused = True
        self.paused_at = self._gateway.now()
        if self.exchange is not None:
            self.exchange.client_full()

    def resume_writing(self) -> None:
        self.paused = False
        if self.exchange is not None:
            self.exchange.client_drained()

    # From the parser.

    def on_message_begin(self) -> None:
        self._request = Request()
        self._body = []
        self._body_bytes = 0
        self._has_host = self._expects = False

    def on_url(self, url: bytes) -> None:
        request = self._request
        assert request is not None
        request.target += url
        if len(request.target) > self._gateway.bounds.max_header_bytes:
            self._abort(self._headers_too_large())

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._request
        assert request is not None
        headers = request.headers
        if len(headers) >= 128:
            self._abort(HeadersTooLarge("A request may have 128 header fields."))
        name = LOWER_NAMES.get(name) or lower(name)
        if name in _OWN_FIELDS:
            self._own_field(request, name, value)
        else:
            headers.append((name, value))

    def _own_field(self, request: Request, name: bytes, value: bytes) -> None:
        """A field that is not kept among the others."""
        if name == b"host":
            if self._has_host:
                self._abort(InvalidRequest("A request has exactly one Host field."))
            self._has_host = True
        elif name == b"content-length":
            if int(value) > self._gateway.bounds.max_body_bytes:
                self._abort(_body_too_large(self._gateway.bounds.max_body_bytes))
        elif name == b"transfer-encoding":
            if value.strip().lower() != b"chunked":
                self._abort(InvalidRequest("The only transfer coding taken is chunked."))
        elif name == b"expect":
            self._expects = value.lower() == b"100-continue"
        elif name == b"x-request-id":
            request.request_id = value
        else:
            request.traceparent = value

    def on_headers_complete(self) -> None:
        request = self._request
        assert request is not None
        gateway, parser = self._gateway, self._parser
        request.arrived_at = gateway.now()
        request.method = parser.get_method()
        request.keep_alive = parser.should_keep_alive()
        request.http_1_0 = parser.get_http_version() == "1.0"
        if not self._has_host and not request.http_1_0:
            self._abort(InvalidRequest("A request has exactly one Host field."))
        self.deadline = request.arrived_at + gateway.bounds.body_timeout_s
        if self._expects and self.exchange is None and not self._queue:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._body_bytes += len(body)
        limit = self._gateway.bounds.max_body_bytes
        if self._body_bytes > limit:
            self._abort(_body_too_large(limit))

    def on_message_complete(self) -> None:
        request = self._request
        assert request is not None
        body = self._body
        request.body = body[0] if len(body) == 1 else b"".join(body)
        self._request, self._body, self._body_bytes, self._head_bytes = None, [], 0, 0
        if self.exchange is None:
            self._start(request)
        elif len(self._queue) < _MAX_PIPELINED:
            self._queue.append(request)
            self._pause_reading()
        else:
            self._abort(InvalidRequest(f"At most {_MAX_PIPELINED} requests may be pipelined."))

    # From the exchange.

    @property
    def peer(self) -> bytes:
        """The client's address, as text."""
        return self._peer

    def finished(self, *, keep_alive: bool) -> None:
        """The answer is written whole."""
        self.exchange = None
        if not keep_alive or self._close_after:
            self.close()  # as the head of the answer said; one that began before a drain did not
        elif self._queue:
            self._start(self._queue.popleft())
        else:
            bounds = self._gateway.bounds
            patience = bounds.idle_timeout_s if self._request is None else bounds.header_timeout_s
            self.deadline = self._gateway.now() + patience
            if not self._reading and self.transport is not None:
                self._reading = True
                self.transport.resume_reading()

    def close(self) -> None:
        """Close when everything written has been taken."""
        self._close_after = True
        if self.transport is not None:
            self.transport.close()
            self.deadline = self._gateway.now() + self._gateway.bounds.write_timeout_s

    def cut(self) -> None:
        """Close now: the client sees a broken answer, never a short one."""
        self._close_after = True
        if self.transport is not None:
            self.transport.abort()

    # From the sweeper.

    @property
    def is_idle(self) -> bool:
        return self.exchange is None and self._request is None and not self._queue

    def timed_out(self) -> None:
        """The deadline has passed."""
        if self.is_idle or self._close_after:
            self.cut()
        elif self.exchange is None:
            self._refuse(RequestTimeout("The request did not arrive in time."))

    # Inside.

    def _start(self, request: Request) -> None:
        self.deadline = 0.0
        self.exchange = Exchange(self._gateway, self, request)
        self.exchange.start()

    def _pause_reading(self) -> None:
        if self._reading and self.transport is not None:
            self._reading = False
            self.transport.pause_reading()

    def _abort(self, error: RequestError) -> None:
        """Leave the parser from inside a callback."""
        self._refused = error
        raise error

    def _refuse(self, error: RequestError) -> None:
        """Answer the request that is being read, if the answer can be in order, and close."""
        self._close_after = True
        if self.exchange is None and self.transport is not None:
            self.write(error_answer(error, keep_alive=False))
            self._gateway.metrics.shed.add(error.code or error.type)
        if self.exchange is None:
            self.close()

    def _headers_too_large(self) -> RequestError:
        limit = self._gateway.bounds.max_header_bytes
        return HeadersTooLarge(f"The header fields are over {limit} bytes.")


def _body_too_large(limit: int) -> RequestError:
    return PayloadTooLarge(f"The body is over {limit} bytes.")
