"""An answer on its way to one client, where its payload matters: events in, framed bytes out.

A plain answer has no relay: its bytes go from socket to socket. This is for streams that may have
to go on at another worker, or whose token counts the client did not ask for, and for clients of
HTTP/1.0, who do not know chunks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from .plain_chunk import is_plain_event
from .usage_wish import UsageFilter

if TYPE_CHECKING:
    from .client import ClientConnection
    from .continuation import Continuation

_LAST_CHUNK: Final = b"0\r\n\r\n"


class Relay:
    """Owned by its exchange from the first byte of the answer on. `feed` is what a token costs."""

    __slots__ = ("_client", "_continuation", "_filter", "_is_framed", "_on_failure", "num_bytes",
                 "tail")  # fmt: skip

    def __init__(
        self,
        client: ClientConnection,
        *,
        is_framed: bool,
        continuation: Continuation | None,
        hides_usage: bool,
        on_failure: Callable[[], None],
    ) -> None:
        """`on_failure` hears when a worker says in an event that it cannot go on."""
        self._client = client
        self._is_framed = is_framed
        self._continuation = continuation
        self._filter = UsageFilter() if hides_usage else None
        self._on_failure = on_failure
        self.tail = (b"", b"")
        """The last two pieces that were passed on."""
        self.num_bytes = 0
        """Sent to the client, framing included."""

    def feed(self, data: bytes) -> None:
        """Payload from a worker."""
        continuation = self._continuation
        if continuation is None:
            self.add(data)
            return
        data = continuation.feed(data)
        if data:
            self.add(data)
        if continuation.has_failed:
            self._on_failure()

    def pass_on(self, chunk: bytes, payload: bytes) -> bool:
        """Send a whole chunk as it came, if there is nothing in it but text for the client."""
        continuation, usage = self._continuation, self._filter
        if not self._is_framed or (usage is not None and usage.has_part):
            return False
        if continuation is None:
            if not is_plain_event(payload, without_token_ids=False):
                return False
        elif not continuation.keep(payload):
            return False
        self._write(chunk)
        return True

    def add(self, data: bytes) -> None:
        """Payload for the client."""
        if self._filter is not None:
            data = self._filter.feed(data)
        if data:
            self.tail = (self.tail[1], data)
            self._write(self.framed(data))

    def end(self) -> None:
        """The answer is whole."""
        if self._filter is not None and (rest := self._filter.end()):
            self._write(self.framed(rest))
        if self._is_framed:
            self._write(_LAST_CHUNK)

    def end_with(self, event: bytes) -> bool:
        """The answer cannot be completed; an event says why, if there can be one more, and the last
        chunk stays out, so that the client can tell."""
        if self._is_framed:
            self._write(self.framed(event))
        return self._is_framed

    def _write(self, data: bytes) -> None:
        self.num_bytes += len(data)
        self._client.write(data)

    def framed(self, data: bytes) -> bytes:
        """In the framing that the client gets."""
        return b"%x\r\n%b\r\n" % (len(data), data) if self._is_framed and data else data

    def first(self, data: bytes) -> bytes:
        """The first payload from a worker, framed, to be written behind the head."""
        if self._continuation is not None:
            data = self._continuation.feed(data)
        if data and self._filter is not None:
            data = self._filter.feed(data)
        self.tail = (b"", data)
        data = self.framed(data)
        self.num_bytes += len(data)
        return data

    @property
    def usage_bytes(self) -> bytes:
        """Where the token counts of the answer stand."""
        hidden = self._filter
        return hidden.event if hidden is not None and hidden.event else b"".join(self.tail)
