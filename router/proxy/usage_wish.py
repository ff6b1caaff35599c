"""Token counts of streams whose clients did not ask for them: limits, prices and bills need them.

The worker is asked to end the stream with its usage, and that one event is not passed on.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from ..request_fields import RequestFields

_PATHS: Final = frozenset({b"/v1/chat/completions", b"/v1/completions"})
_ENDS: Final = (b"\n\n", b"\r\n\r\n")
"""Of an event. Most servers write the first, sse-starlette the second."""
_AFTER_EVENT: Final = re.compile(rb"(?<=\n\n)|(?<=\r\n\r\n)")
_MAX_EVENT_BYTES: Final = 1024 * 1024
"""What grows longer without an end is passed on unseen."""
_NO_CHOICES: Final = (b'"choices":[]', b'"choices": []')


def ask_for_usage(path: bytes, fields: RequestFields, body: bytes) -> bytes | None:
    """The body with `stream_options.include_usage`; None: not needed, or not known there.

    It is put before the closing brace, where it wins over what the client wrote; `fields` is
    changed too.
    """
    if path not in _PATHS or fields.stream is not True:
        return None
    options = fields.stream_options if isinstance(fields.stream_options, dict) else {}
    if options.get("include_usage") is True:
        return None
    fields.stream_options = {**options, "include_usage": True}
    end = body.rindex(b"}")
    return b'%b,"stream_options":%b}' % (body[:end], msgspec.json.encode(fields.stream_options))


class UsageFilter:
    """Takes the usage event out of a stream of events."""

    __slots__ = ("_partial", "event")

    def __init__(self) -> None:
        self.event = b""
        """What was taken out."""
        self._partial = b""

    @property
    def has_part(self) -> bool:
        """Whether an event has begun and not ended."""
        return bool(self._partial)

    def feed(self, data: bytes) -> bytes:
        """What to pass on: whole events."""
        if self._partial:
            data = self._partial + data
            self._partial = b""
        if not data.endswith(_ENDS):
            end = max([data.rfind(mark) + len(mark) for mark in _ENDS if mark in data], default=0)
            if len(data) - end > _MAX_EVENT_BYTES:
                return data
            data, self._partial = data[:end], data[end:]
        if data.find(_NO_CHOICES[0]) >= 0 or data.find(_NO_CHOICES[1]) >= 0:
            data = b"".join([event for event in _events(data) if not self._takes(event)])
        return data

    def end(self) -> bytes:
        """What is left of a stream that did not end with an event."""
        rest, self._partial = self._partial, b""
        return rest

    def _takes(self, event: bytes) -> bool:
        is_usage = b'"usage"' in event and (_NO_CHOICES[0] in event or _NO_CHOICES[1] in event)
        if is_usage:
            self.event = event
        return is_usage


def _events(data: bytes) -> list[bytes]:
    """Whole events, each with the blank line that ends it."""
    if data.find(b"\r") >= 0:
        return _AFTER_EVENT.split(data)
    # A regular expression that looks behind itself is twenty times slower.
    *whole, rest = data.split(b"\n\n")
    return [*[event + b"\n\n" for event in whole], rest]
