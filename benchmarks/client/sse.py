"""Server-sent events out of a byte stream, at the cost of a `split`.

Follows the parts of the WHATWG event stream format that model servers use: events end at an empty
line, `data:` lines carry the payload, other fields and comments are skipped.
"""

from __future__ import annotations

from shoal.errors import ShoalError

MAX_EVENT_BYTES = 4 << 20


class EventTooLong(ShoalError):
    """An event without an end: the server is not speaking server-sent events, or is broken."""


class EventSplitter:
    """Feed bytes as they come; get the payloads of the events that are complete."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Payloads completed by `data`. Raises EventTooLong."""
        if self._rest:
            data = self._rest + data
        if b"\r" in data:
            # A lone CR at the very end may be half of a CRLF: it waits for the rest.
            held = data[-1:] == b"\r"
            body = data[:-1] if held else data
            data = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n") + (b"\r" if held else b"")
        *events, self._rest = data.split(b"\n\n")
        if len(self._rest) > MAX_EVENT_BYTES:
            raise EventTooLong(f"an event of more than {MAX_EVENT_BYTES} bytes")
        return [payload for event in events if (payload := _payload(event)) is not None]


def _payload(event: bytes) -> bytes | None:
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]  # what every server sends
    lines = [
        line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")
    ]
    return b"\n".join(lines) if lines else None
