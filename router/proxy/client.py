"""One client connection: requests in the order they come, answers in the order they were asked."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from shoal.errors import NoEndpoint, RequestError, RequestTimeout

from ..settings.listen import BoundsConfig
from .answers import error_answer
from .exchange import Exchange
from .request_reader import Request, RequestReader

if TYPE_CHECKING:
    from .admission import HeadMemo
    from .gateway import Gateway

_MAX_PIPELINED: Final = 8
_MAX_QUEUED_BYTES: Final = 64 * 1024
"""Of a pipelined body, before nothing more is read until it has its turn."""
_LINGER_S: Final = 2.0
"""How long a refused client may go on sending what nobody reads: closing at once would reset the
connection, and could take the answer away from it."""

_RESET: Final = struct.pack("ii", 1, 0)
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class ClientConnection(asyncio.Protocol):
    """Owned by its transport; the gateway knows it as long as that is open."""

    __slots__ = (
        "_close_after",
        "_gateway",
        "_held_bytes",
        "_outbox",
        "_peer",
        "_queue",
        "_reading",
        "deadline",
        "exchange",
        "head_memo",
        "paused",
        "paused_at",
        "reader",
        "transport",
    )

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._outbox = gateway.outbox
        self.reader = RequestReader(self)
        self._queue: deque[Request] = deque()
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
        if not self._close_after:
            try:
                self.reader.feed(data)
            except RequestError as error:
                self._refuse(error)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._queue.clear()
        self._gateway.connections.discard(self)
        self.reader.untie()
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

    # From the reader.

    @property
    def bounds(self) -> BoundsConfig:
        return self._gateway.bounds

    @property
    def is_closing(self) -> bool:
        return self._close_after

    def now(self) -> float:
        return self._gateway.now()

    def request_began(self) -> None:
        if self.exchange is None and not self._queue:
            self.deadline = self._gateway.now() + self._gateway.bounds.header_timeout_s

    def head_read(self, request: Request) -> None:
        self.deadline = request.arrived_at + self._gateway.bounds.body_timeout_s
        if self.reader.expects_continue and self.exchange is None and not self._queue:
            self.write(_CONTINUE)

    def requested(self, request: Request) -> bool:
        if self.exchange is None:
            self._start(request)
            return True
        if len(self._queue) == _MAX_PIPELINED:
            return False
        self._queue.append(request)
        if len(self._queue) == _MAX_PIPELINED or len(request.body) > _MAX_QUEUED_BYTES:
            self._pause_reading()
        return True

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
        elif self.reader.request is not None:
            self._await_rest(self.reader.request)
        else:
            self.deadline = self._gateway.now() + self._gateway.bounds.idle_timeout_s
        if not self._reading and not self._queue:
            self._resume_reading()

    def _await_rest(self, request: Request) -> None:
        """A pipelined request whose beginning has come is the next in turn."""
        bounds = self._gateway.bounds
        if request.arrived_at:
            self.deadline = self._gateway.now() + bounds.body_timeout_s
            if self.reader.expects_continue:
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
        return self.exchange is None and self.reader.request is None and not self._queue

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
        self.reader.drop()
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
