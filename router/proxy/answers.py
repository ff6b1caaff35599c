"""Answers the router writes itself: errors in OpenAI's shape, and small JSON documents."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from shoal.errors import MethodNotAllowed, RequestError
from shoal.openai.error import error_body

from .headers import status_line

_encode: Final = msgspec.json.Encoder().encode

JSON: Final = b"application/json"


def answer(
    status: int,
    body: bytes,
    *,
    content_type: bytes = JSON,
    keep_alive: bool = True,
    lines: bytes = b"",
) -> bytes:
    """A whole HTTP/1.1 answer; `lines` are header lines."""
    return b"%bcontent-type: %b\r\ncontent-length: %d\r\n%b%b\r\n%b" % (
        status_line(status),
        content_type,
        len(body),
        lines,
        b"" if keep_alive else b"connection: close\r\n",
        body,
    )


def error_answer(
    error: RequestError,
    *,
    keep_alive: bool,
    lines: bytes = b"",
) -> bytes:
    """The answer for one of our errors."""
    if error.retry_after_s is not None:
        lines = b"%bretry-after: %d\r\n" % (lines, max(1, math.ceil(error.retry_after_s)))
    if error.status == 401:
        lines += b"www-authenticate: Bearer\r\n"
    elif isinstance(error, MethodNotAllowed):
        lines = b"%ballow: %b\r\n" % (lines, error.allow.encode())
    return answer(error.status, _encode(error_body(error)), keep_alive=keep_alive, lines=lines)


def error_event(error: RequestError) -> bytes:
    """An error as the last event of a stream that has begun."""
    return b"data: %b\n\n" % _encode(error_body(error))
