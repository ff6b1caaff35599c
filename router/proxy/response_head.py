"""The head of a worker's answer: what it says, and one that was read before."""

from __future__ import annotations

from typing import Final

from .headers import Headers, returned_fields, status_line
from .known_head import KnownHead, known_head

NO_BODY: Final = frozenset({204, 304})
"""Status codes of answers that are a head alone."""


class ResponseHead:
    """Status line and fields of an answer."""

    __slots__ = ("chunked", "content_length", "headers", "keep_alive", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        """Without framing."""
        self.chunked = False
        self.content_length: int | None = None
        self.keep_alive = True

    @property
    def is_interim(self) -> bool:
        return 100 <= self.status < 200

    @property
    def is_delimited(self) -> bool:
        """Whether the end of the body shows without the connection closing."""
        return self.chunked or self.content_length is not None or self.status in NO_BODY


def returned_lines(head: ResponseHead) -> bytes:
    """Status line and fields for the client."""
    return status_line(head.status) + returned_fields(head.headers)


class KnownAnswer:
    """A head with which whole answers of a worker begin."""

    __slots__ = ("_example", "head")

    def __init__(self, head: KnownHead, example: ResponseHead) -> None:
        self.head = head
        self._example = example

    def again(self, content_length: int) -> ResponseHead:
        """What it means."""
        head = ResponseHead()
        head.status = self._example.status
        head.headers = self._example.headers
        head.content_length = content_length
        return head


def known_answer(message: bytes, head: ResponseHead) -> KnownAnswer | None:
    """For the next ones, if that was a whole answer with a length, as most are."""
    if head.content_length is None or head.chunked or not head.keep_alive:
        return None
    if head.status in NO_BODY:
        return None
    known = known_head(message)
    if known is None or known.body_of(message) is None:
        return None
    return KnownAnswer(known, head)
