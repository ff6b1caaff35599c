"""Messages between two processes over a socket pair: their length, then they.

The engine's API process and its core talk so, and the router's processes. A socket pair is two
file descriptors that only the two processes have: nothing lies in the file system, and nobody else
can connect. One `send` a message, no thread in between: with zeromq's a token woke four threads on
its way, and on a small machine each of them stopped one that computes.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import cast

_LENGTH = struct.Struct("<I")
_RECEIVE_BYTES = 1 << 18


class PeerGone(Exception):
    """The other process has closed its end."""


def with_length(message: bytes) -> bytes:
    """Raises struct.error for 4 GiB and more."""
    return _LENGTH.pack(len(message)) + message


class Splitter:
    """Puts together what a stream brings in pieces."""

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, data: bytes) -> None:
        self._received += data

    def next(self) -> bytes | None:
        """The next message, if all of it is there."""
        if len(self._received) < _LENGTH.size:
            return None
        end = _LENGTH.size + _LENGTH.unpack_from(self._received)[0]
        if len(self._received) < end:
            return None
        message = bytes(self._received[_LENGTH.size : end])
        del self._received[:end]
        return message


class BlockingFrames:
    """An end without an event loop (the engine core's). It sends without a bound on waiting: what a
    step says is read, or we end."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._splitter = Splitter()

    def fileno(self) -> int:
        """To wait for it beside other things; `receive` without waiting first, then sleep."""
        return self._socket.fileno()

    def send(self, message: bytes) -> None:
        """Raises PeerGone."""
        try:
            self._socket.sendall(with_length(message))
        except OSError as error:
            raise PeerGone from error

    def receive(self, *, wait: bool) -> bytes | None:
        """The next message; None if there is none and `wait` is false. Raises PeerGone."""
        while (message := self._splitter.next()) is None:
            try:
                data = self._socket.recv(_RECEIVE_BYTES, 0 if wait else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError as error:
                raise PeerGone from error
            if not data:
                raise PeerGone
            self._splitter.feed(data)
        return message


class FrameProtocol(asyncio.Protocol):
    """An end in an event loop: calls `on_message` for each message; writing never waits."""

    def __init__(self, on_message: Callable[[bytes], None]) -> None:
        self._on_message = on_message
        self._splitter = Splitter()
        self.transport: asyncio.Transport | None = None
        """To write to; there before the first message, which is to be answered."""
        self.closed = asyncio.Event()
        """Set when the other end is gone and everything that it sent has been delivered."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._splitter.feed(data)
        while (message := self._splitter.next()) is not None:
            self._on_message(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
