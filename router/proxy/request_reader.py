"""Requests out of the bytes of one connection: what llhttp tells, put together and kept in bounds.

llhttp (through httptools) decides what a request is; what it refuses, as every ambiguous framing,
is refused here. A body is read whole, up to a bound, before the request goes anywhere: it must be
looked into, and may have to be sent twice. Trailers are read and dropped, and Upgrade is ignored
(RFC 9110, sections 6.5.1 and 7.8).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httptools

from shoal.errors import (
    HeadersTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    PayloadTooLarge,
    RequestError,
)

from .headers import LOWER_NAMES, Headers, lines_bytes, lower
from .known_head import KnownHead, known_head

if TYPE_CHECKING:
    from .client import ClientConnection

_MAX_LEARNT: Final = 8
"""Heads of a connection that are remembered in vain before no more are."""
_MAX_FIELDS: Final = 128

# Which of the fields below a message has; bits of one number.
_HOST, _EXPECT, _CHUNKED, _UPGRADE = 1, 2, 4, 8
_OWN_FIELDS: Final = frozenset(
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


_NO_PARSER: Final = httptools.HttpRequestParser(object())


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

    def again(self, body: bytes, arrived_at: float) -> Request:
        """One with the same head, but for the length."""
        request = Request()
        request.method = self.method
        request.target = self.target
        request.headers = self.headers
        request.body = body
        request.arrived_at = arrived_at
        return request


class RequestReader:
    """Owned by its connection, which hears of each request."""

    __slots__ = (
        "_example",
        "_has",
        "_known",
        "_latest",
        "_length",
        "_num_learnt",
        "_owner",
        "_parser",
        "_read_bytes",
        "_refused",
        "body",
        "body_bytes",
        "head_bytes",
        "request",
    )

    def __init__(self, owner: ClientConnection) -> None:
        self._owner: ClientConnection | None = owner
        self._known: KnownHead | None = None
        """A head that may come again, and then needs no parser."""
        self._example = Request()
        """What it means."""
        self._latest: Request | None = None
        """Read whole by the parser just now."""
        self._num_learnt = 0
        self._parser = httptools.HttpRequestParser(self)
        self._refused: RequestError | None = None
        self.request: Request | None = None
        """The one that is being read."""
        self.body: list[bytes] = []
        self.body_bytes = 0
        self._read_bytes = 0
        """Of the latest read."""
        self.head_bytes = 0
        """Read since the last byte of a body, or the last message; what follows such a byte in the
        same read is not counted."""
        self._has = 0
        """Which fields the message has, as bits."""
        self._length = 0
        """The message's Content-Length."""

    def feed(self, data: bytes) -> None:
        """Read on. Raises RequestError: that was no request, or not one that is taken; what follows
        it cannot be read."""
        known = self._known
        is_between = self.request is None and self.head_bytes == 0
        if known is not None and is_between:
            body = known.body_of(data)
            if body is not None and self._again(known, body):
                return
        self._read_bytes = num_bytes = len(data)
        self.head_bytes += num_bytes
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._stopped(data, error)
        latest, self._latest = self._latest, None
        if latest is not None and is_between:
            self._learn(latest, data)
        if (
            self.head_bytes > self._connection().bounds.max_header_bytes
            and self.request is not None
            and not self._connection().is_closing
        ):
            raise self._headers_too_large()

    def _learn(self, latest: Request, data: bytes) -> None:
        """Remember the head, if that was one whole request and its head may come again."""
        if not latest.keep_alive:
            self._known = None  # it was the last one
            return
        is_its_own = latest.request_id is not None or latest.traceparent is not None
        if is_its_own or self._has != _HOST or self._num_learnt == _MAX_LEARNT:
            return
        self._num_learnt += 1
        known = known_head(data)
        if known is not None and known.body_of(data) is not None:
            self._known = known
            self._example = latest.again(b"", 0.0)

    def _again(self, known: KnownHead, body: bytes) -> bool:
        """Take a request whose head is known; False: let the parser say what is wrong with it."""
        owner = self._connection()
        bounds = owner.bounds
        if len(body) > bounds.max_body_bytes or known.num_bytes > bounds.max_header_bytes:
            return False
        self._num_learnt = 0
        self._has, self._length = _HOST, len(body)
        request = self._example.again(body, owner.now())
        owner.head_read(request)
        if not owner.requested(request):
            raise InvalidRequest("Too many requests are pipelined.")
        return True

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for a word before it sends the body."""
        return bool(self._has & _EXPECT)

    def _connection(self) -> ClientConnection:
        owner = self._owner
        assert owner is not None
        return owner

    def untie(self) -> None:
        """The connection is gone: let go of what knows us, or all waits for the collector."""
        self.drop()
        self._owner = None
        self._parser = _NO_PARSER

    def drop(self) -> None:
        """Forget what is being read."""
        self.request = self._known = None
        self.body.clear()

    # From the parser.

    def on_message_begin(self) -> None:
        self.request = Request()
        self.body = []
        self.body_bytes = 0
        self._has = self._length = 0
        self._connection().request_began()

    def on_url(self, url: bytes) -> None:
        request = self.request
        assert request is not None
        request.target += url
        if len(request.target) > self._connection().bounds.max_header_bytes:
            self._abort(self._headers_too_large())

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self.request
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
            if self._length > self._connection().bounds.max_body_bytes:
                self._abort(_body_too_large(self._connection().bounds.max_body_bytes))
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
        request = self.request
        assert request is not None
        owner, parser = self._connection(), self._parser
        bounds = owner.bounds
        request.arrived_at = owner.now()
        request.method = parser.get_method()
        request.keep_alive = parser.should_keep_alive()
        if self._read_bytes > bounds.max_header_bytes or self.head_bytes > bounds.max_header_bytes:
            self._check_head_size(request)
        if parser.get_http_version() != "1.1":
            self._check_old_version(request)
        elif not self._has & _HOST:
            self._abort(InvalidRequest("A request has exactly one Host field."))
        if request.method == b"CONNECT":
            self._abort(
                MethodNotAllowed("This is no forward proxy: no CONNECT.", allow="GET, HEAD, POST")
            )
        self._connection().head_read(request)

    def _check_head_size(self, request: Request) -> None:
        """The head may be too large, or something else is in the same read."""
        num_bytes = len(request.target) + lines_bytes(request.headers)
        if num_bytes > self._connection().bounds.max_header_bytes:
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
        self.body.append(body)
        self.body_bytes += len(body)
        self.head_bytes = 0
        limit = self._connection().bounds.max_body_bytes
        if self.body_bytes > limit:
            self._abort(_body_too_large(limit))

    def on_message_complete(self) -> None:
        request = self.request
        assert request is not None
        if self._connection().is_closing or (
            self._has & _UPGRADE and self._parser.should_upgrade()
        ):
            return  # nobody reads an answer, or the parser is about to stop
        body = self.body
        request.body = body[0] if len(body) == 1 else b"".join(body)
        self.request, self.body, self.body_bytes, self.head_bytes = None, [], 0, 0
        self._latest = request
        if not self._connection().requested(request):
            self._abort(InvalidRequest("Too many requests are pipelined."))

    def _stopped(self, data: bytes, error: Exception) -> None:
        """It refuses the message, or one of our callbacks did, or it saw an Upgrade."""
        rest = memoryview(data)
        while isinstance(error, httptools.HttpParserUpgrade):
            rest = rest[error.args[0] :]
            try:
                self._ignore_upgrade()
                self._parser.feed_data(rest)
                return
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as next_error:
                error = next_error
        if not isinstance(error, httptools.HttpParserCallbackError):
            raise InvalidRequest("That is no HTTP request.", code="invalid_http") from error
        raise self._refused or error

    def _ignore_upgrade(self) -> None:
        """Go on with HTTP/1.1, as if the client had not offered to change the protocol.

        Java's HttpClient offers HTTP/2 with each first request. llhttp takes all that follows such
        a head for the other protocol, so the body is read by a new parser.
        """
        request = self.request
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
        self.request = request

    def _abort(self, error: RequestError) -> None:
        """Leave the parser from inside a callback."""
        self._refused = error
        raise error

    def _headers_too_large(self) -> RequestError:
        limit = self._connection().bounds.max_header_bytes
        return HeadersTooLarge(f"The header fields are over {limit} bytes.")


def _body_too_large(limit: int) -> RequestError:
    return PayloadTooLarge(f"The body is over {limit} bytes.")
