"""Answers the router writes itself: errors in OpenAI's shape, and small JSON documents."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from shoal.errors import RequestError
from shoal.openai.error import error_body

from .headers import lines, status_line

_encode = msgspec.json.Encoder().encode

JSON = b"application/json"


def answer(
    status: int,
    body: bytes,
    *,
    content_type: bytes = JSON,
    keep_alive: bool = True,
    fields: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """A whole HTTP/1.1 answer."""
    return b"%bcontent-type: %b\r\ncontent-length: %d\r\n%b%b\r\n%b" % (
        status_line(status),
        content_type,
        len(body),
        lines(fields),
        b"" if keep_alive else b"connection: close\r\n",
        body,
    )


def error_answer(
    error: RequestError,
    *,
    keep_alive: bool,
    fields: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """The answer for one of our errors."""
    extra = list(fields)
    if error.retry_after_s is not None:
        extra.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))))
    if error.status == 401:
        extra.append((b"www-authenticate", b"Bearer"))
    return answer(error.status, _encode(error_body(error)), keep_alive=keep_alive, fields=extra)


def error_event(error: RequestError) -> bytes:
    """An error as the last event of a stream that has begun."""
    return b"data: %b\n\n" % _encode(error_body(error))
