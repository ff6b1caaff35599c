"""A message head that repeats, but for the digits of its length: known by comparing bytes.

Who keeps a connection sends the same head again and again. llhttp has read it once, and what is the
same, byte for byte, means the same: comparing costs a tenth of reading it again. Nothing is
guessed: whatever differs in more than those digits, or is not one whole message in one read, goes
to the parser, which is between two messages then as now.
"""

from __future__ import annotations

import re
from typing import Final

_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})(?=\r\n)", re.IGNORECASE)
_MAX_DIGITS: Final = 9
_ZERO: Final = 48
_NINE: Final = 57
_MAX_HEAD_BYTES: Final = 4096
"""Of a head that is remembered: there may be thousands of connections."""


class KnownHead:
    """Of a message whose body has a length and that leaves its connection open."""

    __slots__ = ("_prefix", "_suffix", "num_bytes")

    def __init__(self, prefix: bytes, suffix: bytes) -> None:
        self._prefix: Final = prefix
        self._suffix: Final = suffix
        self.num_bytes: Final = len(prefix) + _MAX_DIGITS + len(suffix)
        """Of the head, at most."""

    def body_of(self, data: bytes) -> bytes | None:
        """The body, if these bytes are one whole message with this head."""
        # Digits and slices, and no methods with positions: those are slow once this is compiled.
        prefix, suffix = self._prefix, self._suffix
        if not data.startswith(prefix):
            return None
        first = at = len(prefix)
        most = min(len(data), first + _MAX_DIGITS)
        length = 0
        while at < most and _ZERO <= (digit := data[at]) <= _NINE:
            length = 10 * length + digit - _ZERO
            at += 1
        start = at + len(suffix)
        if at == first or len(data) - start != length or data[at:start] != suffix:
            return None
        return data[start:]


def known_head(message: bytes) -> KnownHead | None:
    """The head of a whole message that llhttp has taken for one with a Content-Length."""
    end = message.find(b"\r\n\r\n", 0, _MAX_HEAD_BYTES)
    if end < 0:
        return None
    head = message[: end + 4]
    matches = list(_LENGTH.finditer(head))
    if len(matches) != 1:
        return None  # written in another way, and rare enough
    return KnownHead(head[: matches[0].start(1)], head[matches[0].end(1) :])
