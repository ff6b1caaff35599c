"""One connection to a worker: a request out, its answer back, then into the pool or closed.

The body of an answer is relayed as it came, chunk framing included, while llhttp (through
httptools) watches for its end: a token costs one read, one parse of its framing and one write. Only
where the payload itself matters (a stream that may have to be continued elsewhere, a client of
HTTP/1.0) is the framing taken off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, cast

import httptools

from .headers import LOWER_NAMES, lower
from .plain_chunk import whole_chunk
from .response_head import NO_BODY, ResponseHead, returned_lines

if TYPE_CHECKING:
    from .pool import Pool
    from .relay import Relay

_MAX_HEAD_BYTES: Final = 64 * 1024
_NO_PARSER: Final = httptools.HttpResponseParser(object())


class Asker(Protocol):
    """Who a connection reports to while it is busy."""

    def on_head(self, head: ResponseHead) -> None:
        """Status and fields are there."""

    def on_body(self, data: bytes) -> None:
        """Bytes of the body: as they came, or the payload if that was wanted."""

    def on_end(self) -> None:
        """The answer is complete: now `release` the connection."""

    def on_lost(self, reason: str) -> None:
        """The connection is gone before the answer was complete."""


class UpstreamConnection(asyncio.Protocol):
    """Owned by its pool while idle, by who asks while busy."""

    __slots__ = (
        "_head_bytes",
        "_is_at_chunk",
        "_is_paused",
        "_parser",
        "_payload",
        "_payload_parser",
        "_raw_parser",
        "_sent_in_turn",
        "asker",
        "complete",
        "has_head",
        "head",
        "idle_since",
        "num_bytes",
        "num_reads",
        "pool",
        "relay",
        "stream",
        "tail",
        "transport",
    )

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.asker: Asker | None = None
        self.transport: asyncio.Transport | None = None
        self._raw_parser = httptools.HttpResponseParser(_Callbacks(self))
        self._payload_parser: httptools.HttpResponseParser | None = None
        self._parser = self._raw_parser
        self._payload: list[bytes] = []
        self._head_bytes = b""
        self._is_paused = False
        self._is_at_chunk = False
        """The parser is between two chunks, as far as its callbacks tell."""
        self._sent_in_turn = -1
        self.head = ResponseHead()
        self.has_head = False
        self.complete = False
        self.relay: Callable[[bytes], None] | None = None
        """Takes the bytes of the body as they are; set by the attempt once the answer has begun."""
        self.stream: Relay | None = None
        """Takes whole chunks, if it likes them; set where the payload is wanted."""
        self.tail = (b"", b"")
        """The last two pieces relayed: token counts stand there."""
        self.num_reads = 0
        """Of this answer; grows while the worker says something."""
        self.num_bytes = 0
        """Of this answer's body."""
        self.idle_since = 0.0

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def send(self, asker: Asker, message: bytes, *, wants_payload: bool) -> None:
        """Send a request; its answer goes to `asker`, without framing if `wants_payload`."""
        assert self.asker is None
        assert self.transport is not None
        if not wants_payload:
            self._parser = self._raw_parser
        else:
            if self._payload_parser is None:
                self._payload_parser = httptools.HttpResponseParser(_PayloadCallbacks(self))
            self._parser = self._payload_parser
        self.asker = asker
        self._head_bytes = b""
        self.has_head = self.complete = self._is_at_chunk = False
        self.relay = self.stream = None
        self.num_reads = self.num_bytes = 0
        outbox = self.pool.outbox
        outbox.put(self.transport, message)
        self._sent_in_turn = outbox.turn

    def pause(self) -> None:
        """The client is full: leave what comes in the socket, so that the worker feels it."""
        if self.transport is not None and self.is_open and not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.transport is not None and self.is_open and self._is_paused:
            self._is_paused = False
            self.transport.resume_reading()

    def returned_lines(self) -> bytes:
        """Status line and fields for the client; a worker's answers differ in little, so most are
        made once."""
        head, (known, lines) = self.head, self.pool.returned
        if head.headers is not known.headers and head.headers != known.headers:
            lines = b""
        if not lines or head.status != known.status:
            lines = returned_lines(head)
            self.pool.returned = (head, lines)
        return lines

    def release(self) -> None:
        """The attempt has its answer: keep the connection if both sides may, else close it."""
        self.asker = self.relay = self.stream = None
        self.tail = (b"", b"")
        if self._is_paused:
            self.resume()  # its last bytes filled the client
        transport, head = self.transport, self.head
        if transport is None or transport.is_closing():
            return
        outbox = self.pool.outbox
        if self._sent_in_turn == outbox.turn:
            outbox.flush()
        # A worker that answers before it has the whole request may never read the rest.
        if head.keep_alive and head.is_delimited and not transport.get_write_buffer_size():
            self.pool.give_back(self)
        else:
            transport.close()

    def abandon(self) -> None:
        """Break off now: the worker notices and stops computing."""
        self.asker = self.relay = self.stream = None
        if self.transport is not None:
            self.transport.abort()

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        relay = self.relay
        if relay is None:
            self._begin(data)
            return
        # This is what a token costs.
        self.num_reads += 1
        if self._is_at_chunk and (start := whole_chunk(data)):
            self._relay_chunk(data, start, relay)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._broken("invalid HTTP")
            return
        self._is_at_chunk = self._is_at_chunk and data.endswith(b"\r\n")
        self.num_bytes += len(data)
        if self._parser is self._payload_parser:
            payload = self._payload
            data = payload[0] if len(payload) == 1 else b"".join(payload)
            payload.clear()
        elif self.complete:
            data = self._without_excess(data)
        self.tail = (self.tail[1], data)
        relay(data)
        if self.complete and self.asker is not None:
            self._end()

    def _relay_chunk(self, data: bytes, start: int, relay: Callable[[bytes], None]) -> None:
        """One whole chunk, which the parser need not see."""
        self.num_bytes += len(data)
        if self._parser is not self._payload_parser:
            self.tail = (self.tail[1], data)
            relay(data)
            return
        payload, stream = data[start:-2], self.stream
        if stream is None or not stream.pass_on(data, payload):
            relay(payload)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        asker = self.asker
        self.pool.lost(self)
        # Parsers know us, by their callbacks: let go of them, or all waits for the collector.
        self._parser = self._raw_parser = _NO_PARSER
        self._payload_parser = None
        if asker is None:
            return
        if exc is None and self.has_head and not self.head.is_delimited:
            self.complete = True
            self._end()
        else:
            self._broken("connection lost")

    # Inside.

    def _begin(self, data: bytes) -> None:
        """Bytes of a head, of a body nobody relays yet, or of a payload."""
        asker = self.asker
        if asker is None:
            if self.transport is not None:
                self.transport.abort()  # a worker that speaks before it is asked
            return
        self.num_reads += 1
        had_head = self.has_head
        is_first = False
        if not had_head:
            if not self._head_bytes:
                is_first = True
                known = self.pool.known_answer
                body = None if known is None else known.head.body_of(data)
                if known is not None and body is not None:
                    self._whole(asker, known.again(len(body)), body)
                    return
            self._head_bytes += data
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._broken("invalid HTTP")
            return
        self._is_at_chunk = self._is_at_chunk and data.endswith(b"\r\n")
        if not self.has_head:
            if len(self._head_bytes) > _MAX_HEAD_BYTES:
                self._broken("header fields without end")
            return
        if not had_head:
            data = self._body_part()
            if len(self._head_bytes) - len(data) > _MAX_HEAD_BYTES:
                self._broken("header fields too large")
                return
            if is_first and self.complete:
                self.pool.learn_answer(self._head_bytes, self.head)
            self._head_bytes = b""
            asker.on_head(self.head)
        if self._parser is self._payload_parser:
            data = b"".join(self._payload)
            self._payload.clear()
            self.num_bytes += len(data)
        else:
            self.num_bytes += len(data)
            if self.complete:
                data = self._without_excess(data)
        # The attempt may have turned away by now, or on what it is given.
        if data and self.asker is asker:
            self.tail = (self.tail[1], data)
            asker.on_body(data)
        if self.complete and self.asker is asker:
            self._end()

    def _whole(self, asker: Asker, head: ResponseHead, body: bytes) -> None:
        """A whole answer whose head is known."""
        self.head = head
        self.has_head = self.complete = True
        self.num_bytes = len(body)
        asker.on_head(head)
        if body and self.asker is asker:
            self.tail = (b"", body)
            asker.on_body(body)
        if self.asker is asker:
            self._end()

    def _body_part(self) -> bytes:
        """What of the bytes so far comes after the head, interim answers left out."""
        rest = self._head_bytes
        while True:
            # llhttp takes empty lines before a head.
            head, _, rest = rest.lstrip(b"\r\n").partition(b"\r\n\r\n")
            if not head[8:12].startswith(b" 1"):
                return rest

    def _without_excess(self, data: bytes) -> bytes:
        """The last bytes of an answer, without empty lines that do not belong to it: llhttp says
        nothing of them, and a client would take them for the beginning of its next answer."""
        head = self.head
        length = 0 if head.status in NO_BODY else head.content_length
        if length is not None:
            excess = self.num_bytes - length
        elif head.chunked:  # it ends with one empty line
            end = self.tail[1][-8:] + data[-64:]
            excess = min(len(end) - len(end.rstrip(b"\r\n")) - 4, len(data))
        else:
            return data
        if excess <= 0:
            return data
        self.num_bytes -= excess
        head.keep_alive = False
        return data[:-excess]

    def _end(self) -> None:
        asker = self.asker
        assert asker is not None
        asker.on_end()

    def _broken(self, reason: str) -> None:
        asker = self.asker
        self.abandon()
        if asker is not None:
            asker.on_lost(reason)


class _Callbacks:
    """What llhttp tells. Without `on_body` no bytes object is made of a payload."""

    __slots__ = ("_connection",)

    def __init__(self, connection: UpstreamConnection) -> None:
        self._connection = connection

    def on_message_begin(self) -> None:
        connection = self._connection
        if connection.complete:
            raise ValueError("bytes after the end of the answer")
        connection.head = ResponseHead()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._connection.has_head:
            return  # a trailer: the client gets it where it stands, or not at all
        head = self._connection.head
        name = LOWER_NAMES.get(name) or lower(name)
        if name == b"content-length":
            head.content_length = int(value)
        elif name == b"transfer-encoding":
            if head.chunked or value.strip().lower() != b"chunked":
                raise ValueError("a transfer coding that is not taken off here")
            head.chunked = True
        else:
            head.headers.append((name, value))

    def on_headers_complete(self) -> None:
        connection = self._connection
        head, parser = connection.head, connection._parser
        head.status = parser.get_status_code()
        head.keep_alive = parser.should_keep_alive()
        connection.has_head = not head.is_interim
        connection._is_at_chunk = head.chunked
        if head.status in NO_BODY:
            head.chunked = False
            if head.status == 204:
                head.content_length = None

    def on_chunk_header(self) -> None:
        self._connection._is_at_chunk = False

    def on_chunk_complete(self) -> None:
        self._connection._is_at_chunk = True

    def on_message_complete(self) -> None:
        connection = self._connection
        connection.complete = not connection.head.is_interim
        connection._is_at_chunk = False


class _PayloadCallbacks(_Callbacks):
    """Takes the framing off."""

    __slots__ = ()

    def on_body(self, body: bytes) -> None:
        self._connection._payload.append(body)
