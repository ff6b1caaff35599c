"""One client connection: bytes in, requests out, answers back in the order they were asked.

llhttp (through httptools) decides what a request is; what it refuses, as every ambiguous framing,
is answered with 400 and the connection closes. A body is read whole, up to a bound, before the
request goes anywhere: it must be looked into, and may have to be sent twice. Trailers are read and
dropped, and Upgrade is ignored (RFC 9110, sections 6.5.1 and 7.8).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from shoal.errors import (
    HeadersTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    NoEndpoint,
    PayloadTooLarge,
    RequestError,
    RequestTimeout,
)

from .answers import error_answer
from .exchange import Exchange
from .headers import LOWER_NAMES, Headers, lines_bytes, lower

if TYPE_CHECKING:
    from .admission import HeadMemo
    from .gateway import Gateway

_MAX_PIPELINED = 8
_MAX_QUEUED_BYTES = 64 * 1024
"""Of a pipelined body, before nothing more is read until it has its turn."""
_MAX_FIELDS = 128
_LINGER_S = 2.0
"""How long a refused client may go on sending what nobody reads: closing at once would reset the
connection, and could take the answer away from it."""

_RESET = struct.pack("ii", 1, 0)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# Which of the fields below a message has; bits of one number.
_HOST, _EXPECT, _CHUNKED, _UPGRADE = 1, 2, 4, 8
_OWN_FIELDS = frozenset(
    {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"expect",
        b"upgrade",
        b"x-request-id",
        b"traceparent",
    }
)
"""What ends here, and what differs from request to request."""


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
        """When its head was read, in seconds of the loop's clock; 0: not yet."""


class ClientConnection(asyncio.Protocol):
    """Owned by its transport; the gateway knows it as long as that is open."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_close_after",
        "_gateway",
        "_has",
        "_head_bytes",
        "_held_bytes",
        "_length",
        "_outbox",
        "_parser",
        "_peer",
        "_queue",
        "_read_bytes",
        "_reading",
        "_refused",
        "_request",
        "deadline",
        "exchange",
        "head_memo",
        "paused",
        "paused_at",
        "transport",
    )

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._outbox = gateway.outbox
        self._parser = httptools.HttpRequestParser(self)
        self._request: Request | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._read_bytes = 0
        """Of the latest read."""
        self._head_bytes = 0
        """Read since the last byte of a body, or the last message; what follows such a byte in the
        same read is not counted."""
        self._has = 0
        """Which fields the message has, as bits."""
        self._length = 0
        """The message's Content-Length."""
        self._queue: deque[Request] = deque()
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
        """When it last took something of what we hold for it, as far as the sweeper has seen."""
        self._held_bytes = 0

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        gateway = self._gateway
        self.transport.set_write_buffer_limits(high=gateway.bounds.write_buffer_bytes)
        peer = self.transport.get_extra_info("peername")
        self._peer = str(peer[0]).encode() if isinstance(peer, tuple) else b"unix"
        self.deadline = gateway.now() + gateway.bounds.header_timeout_s
        if not gateway.admit_connection(self):
            error = NoEndpoint(
                "The router has as many connections as it may.",
                code="too_many_connections",
                retry_after_s=1.0,
            )
            self._count_refusal(error)
            self.write(error_answer(error, keep_alive=False))
            self.close()

    def data_received(self, data: bytes) -> None:
        if self._close_after:
            return
        self._read_bytes = num_bytes = len(data)
        self._head_bytes += num_bytes
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._parser_stopped(data, error)
        if (
            self._head_bytes > self._gateway.bounds.max_header_bytes
            and self._request is not None
            and not self._close_after
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
        self._held_bytes = 0
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
        self._has = self._length = 0
        if self.exchange is None and not self._queue:
            self.deadline = self._gateway.now() + self._gateway.bounds.header_timeout_s

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
        if len(headers) >= _MAX_FIELDS:
            self._abort(HeadersTooLarge(f"A request may have {_MAX_FIELDS} header fields."))
        name = LOWER_NAMES.get(name) or lower(name)
        if name in _OWN_FIELDS:
            self._own_field(request, name, value)
        elif not request.arrived_at:  # else a trailer
            headers.append((name, value))

    def _own_field(self, request: Request, name: bytes, value: bytes) -> None:
        """A field that is not kept among the others."""
        if request.arrived_at:
            return  # a trailer, whatever it says
        if name == b"host":
            if self._has & _HOST:
                self._abort(InvalidRequest("A request has exactly one Host field."))
            self._has |= _HOST
        elif name == b"content-length":
            self._length = int(value)
            if self._length > self._gateway.bounds.max_body_bytes:
                self._abort(_body_too_large(self._gateway.bounds.max_body_bytes))
        elif name == b"transfer-encoding":
            if value.strip().lower() != b"chunked":
                self._abort(InvalidRequest("The only transfer coding taken is chunked."))
            self._has |= _CHUNKED
        elif name == b"expect":
            if value.lower() == b"100-continue":
                self._has |= _EXPECT
        elif name == b"upgrade":
            self._has |= _UPGRADE
        elif name == b"x-request-id":
            request.request_id = value
        else:
            request.traceparent = value

    def on_headers_complete(self) -> None:
        request = self._request
        assert request is not None
        gateway, parser = self._gateway, self._parser
        bounds = gateway.bounds
        request.arrived_at = gateway.now()
        request.method = parser.get_method()
        request.keep_alive = parser.should_keep_alive()
        if self._read_bytes > bounds.max_header_bytes or self._head_bytes > bounds.max_header_bytes:
            self._check_head_size(request)
        if parser.get_http_version() != "1.1":
            self._check_old_version(request)
        elif not self._has & _HOST:
            self._abort(InvalidRequest("A request has exactly one Host field."))
        if request.method == b"CONNECT":
            self._abort(MethodNotAllowed("This is no forward proxy: no CONNECT."))
        self.deadline = request.arrived_at + bounds.body_timeout_s
        if self._has & _EXPECT and self.exchange is None and not self._queue:
            self.write(_CONTINUE)

    def _check_head_size(self, request: Request) -> None:
        """The head may be too large, or something else is in the same read."""
        num_bytes = len(request.target) + lines_bytes(request.headers)
        if num_bytes > self._gateway.bounds.max_header_bytes:
            self._abort(self._headers_too_large())

    def _check_old_version(self, request: Request) -> None:
        """llhttp takes 0.9 and 2.0 too."""
        if self._parser.get_http_version() != "1.0":
            self._abort(InvalidRequest("This server speaks HTTP/1.1.", code="invalid_http"))
        if self._has & _CHUNKED:
            self._abort(InvalidRequest("There is no chunked coding in HTTP/1.0."))
        request.http_1_0 = True
        # It could stay open only if we said so in a field of HTTP/1.0's own.
        request.keep_alive = False
        self._has &= ~_EXPECT

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._body_bytes += len(body)
        self._head_bytes = 0
        limit = self._gateway.bounds.max_body_bytes
        if self._body_bytes > limit:
            self._abort(_body_too_large(limit))

    def on_message_complete(self) -> None:
        request = self._request
        assert request is not None
        if self._close_after or (self._has & _UPGRADE and self._parser.should_upgrade()):
            return  # nobody reads an answer, or the parser is about to stop
        body = self._body
        request.body = body[0] if len(body) == 1 else b"".join(body)
        self._request, self._body, self._body_bytes, self._head_bytes = None, [], 0, 0
        if self.exchange is None:
            self._start(request)
        elif len(self._queue) < _MAX_PIPELINED:
            self._queue.append(request)
            if len(self._queue) == _MAX_PIPELINED or len(request.body) > _MAX_QUEUED_BYTES:
                self._pause_reading()
        else:
            self._abort(InvalidRequest(f"At most {_MAX_PIPELINED} requests may be pipelined."))

    def _parser_stopped(self, data: bytes, error: Exception) -> None:
        """It refuses the message, or one of our callbacks did, or it saw an Upgrade."""
        rest = memoryview(data)
        while isinstance(error, httptools.HttpParserUpgrade):
            rest = rest[error.args[0] :]
            try:
                self._ignore_upgrade()
                self._parser.feed_data(rest)
                return
            except RequestError as refusal:
                self._refuse(refusal)
                return
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as next_error:
                error = next_error
        if not isinstance(error, httptools.HttpParserCallbackError):
            self._refuse(InvalidRequest("That is no HTTP request.", code="invalid_http"))
        elif self._refused is not None:
            self._refuse(self._refused)
        else:
            raise error

    def _ignore_upgrade(self) -> None:
        """Go on with HTTP/1.1, as if the client had not offered to change the protocol.

        Java's HttpClient offers HTTP/2 with each first request. llhttp takes all that follows such
        a head for the other protocol, so the body is read by a new parser.
        """
        request = self._request
        assert request is not None
        self._parser = httptools.HttpRequestParser(self)
        if self._has & _CHUNKED:
            framing = b"transfer-encoding: chunked"
        elif self._length:
            framing = b"content-length: %d" % self._length
        else:
            self._has &= ~_UPGRADE
            self.on_message_complete()
            return
        self._parser.feed_data(b"POST / HTTP/1.1\r\nhost: router\r\n%b\r\n\r\n" % framing)
        self._request = request

    # From the exchange.

    def write(self, data: bytes) -> None:
        """Send to the client; nothing happens when it is gone."""
        transport = self.transport
        if transport is not None:
            self._outbox.put(transport, data)

    @property
    def peer(self) -> bytes:
        """The client's address, as text."""
        return self._peer

    def finished(self, *, keep_alive: bool) -> None:
        """The answer is written whole."""
        self.exchange = None
        if self._close_after:
            self._linger()  # something after the request was refused
        elif not keep_alive:
            self.close()  # as the head of the answer said; one that began before a drain did not
        elif self._queue:
            self._start(self._queue.popleft())
        elif self._request is not None:
            self._await_rest(self._request)
        else:
            self.deadline = self._gateway.now() + self._gateway.bounds.idle_timeout_s
        if not self._reading and not self._queue:
            self._resume_reading()

    def _await_rest(self, request: Request) -> None:
        """A pipelined request whose beginning has come is the next in turn."""
        bounds = self._gateway.bounds
        if request.arrived_at:
            self.deadline = self._gateway.now() + bounds.body_timeout_s
            if self._has & _EXPECT:
                self.write(_CONTINUE)
        else:
            self.deadline = self._gateway.now() + bounds.header_timeout_s

    def close(self) -> None:
        """Close when everything written has been taken."""
        self._close_after = True
        if self.transport is not None:
            self._outbox.flush()
            self.transport.close()
            self.deadline = self._gateway.now() + self._gateway.bounds.write_timeout_s

    def cut(self, *, reset: bool = False) -> None:
        """Close now: the client sees a broken answer, never a short one."""
        self._close_after = True
        if self.transport is not None:
            if reset:
                sock = self.transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()

    # From the sweeper.

    @property
    def is_idle(self) -> bool:
        return self.exchange is None and self._request is None and not self._queue

    def look_whether_it_takes(self, now: float) -> None:
        """While it is paused: a slow client is not one that takes nothing."""
        if self.transport is not None:
            held_bytes = self.transport.get_write_buffer_size()
            if held_bytes != self._held_bytes:
                self._held_bytes, self.paused_at = held_bytes, now

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

    def _resume_reading(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self._reading = True
            self.transport.resume_reading()

    def _abort(self, error: RequestError) -> None:
        """Leave the parser from inside a callback."""
        self._refused = error
        raise error

    def _refuse(self, error: RequestError) -> None:
        """Answer the request that is being read, if the answer can be in order, and close."""
        if self._close_after:
            return
        self._close_after = True
        self._count_refusal(error)
        if self.exchange is None and self.transport is not None:
            self.write(error_answer(error, keep_alive=False))
            self._linger()

    def _linger(self) -> None:
        """Close once the client has closed, or after a moment; till then what it sends is read."""
        self._request = None
        self._body.clear()
        self._queue.clear()
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if not transport.can_write_eof():
            self.close()
            return
        self._outbox.flush()
        transport.write_eof()
        self.deadline = self._gateway.now() + _LINGER_S

    def _count_refusal(self, error: RequestError) -> None:
        self._gateway.metrics.shed.add(error.code or error.type)

    def _headers_too_large(self) -> RequestError:
        limit = self._gateway.bounds.max_header_bytes
        return HeadersTooLarge(f"The header fields are over {limit} bytes.")


def _body_too_large(limit: int) -> RequestError:
    return PayloadTooLarge(f"The body is over {limit} bytes.")
