"""The head of a worker's answer as one client gets it, and what can be told from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .attempt import Attempt, Failure
from .headers import find
from .response_head import ResponseHead, returned_lines

if TYPE_CHECKING:
    from .exchange import Exchange


def answer_head(exchange: Exchange, attempt: Attempt, head: ResponseHead) -> bytes:
    """The bytes of the head; decides whether the client's connection stays open."""
    connection = attempt.connection
    if connection is not None:
        lines = connection.returned_lines()
    else:
        lines = returned_lines(head)
    framing = b""
    if head.content_length is not None:
        framing = b"content-length: %b\r\n" % str(head.content_length).encode()
    elif head.chunked and not exchange.request.http_1_0:
        framing = b"transfer-encoding: chunked\r\n"
    elif not head.is_delimited or head.chunked:
        exchange.keep_alive = False  # its end is the end of the connection
    if exchange.gateway.is_draining:
        exchange.keep_alive = False
    return b"%b%bx-request-id: %b\r\n%b%b\r\n" % (
        lines,
        framing,
        exchange.request_id,
        exchange.gateway.limit_lines(exchange),
        b"" if exchange.keep_alive else b"connection: close\r\n",
    )


def is_event_stream(head: ResponseHead) -> bool:
    """Whether it is a stream of events that can be taken apart."""
    content_type = find(head.headers, b"content-type")
    return (
        head.status == 200
        and head.chunked
        and content_type is not None
        and content_type.startswith(b"text/event-stream")
    )


def failure_of(status: int) -> Failure | None:
    """What an error status of a worker counts as; None: it is the answer, whoever gives it."""
    if status in (429, 503):
        return Failure.BUSY
    return Failure.STATUS if status in (500, 502, 504) else None
