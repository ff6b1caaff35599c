"""One small request to a worker, answered whole: tokenize, detokenize."""

from __future__ import annotations

import asyncio
from typing import Final

from .pool import Pool
from .response_head import ResponseHead
from .upstream import UpstreamConnection

_MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024


class FetchFailed(Exception):
    """No whole answer; the message says why."""


async def fetch(pool: Pool, message: bytes, *, timeout_s: float) -> tuple[int, bytes]:
    """Send `message` (head and body); status and payload of the answer. Raises FetchFailed."""
    loop = asyncio.get_running_loop()
    call = _Call(loop.create_future())
    try:
        async with asyncio.timeout(timeout_s):
            connection = pool.take(loop.time()) or await pool.connect()
            call.connection = connection
            connection.send(call, message, wants_payload=True)
            return await call.answer
    except (OSError, ValueError) as error:
        raise FetchFailed(type(error).__name__) from error
    finally:
        call.close()


def post(pool: Pool, path: bytes, body: bytes, *, fields: bytes = b"") -> bytes:
    """A POST to a worker, as bytes; `fields` are its header lines but for host and length."""
    return b"%b%bcontent-length: %d\r\n\r\n%b" % (
        pool.address.post(path),
        fields or b"content-type: application/json\r\n",
        len(body),
        body,
    )


class _Call:
    """What a connection reports to, as an attempt is."""

    def __init__(self, answer: asyncio.Future[tuple[int, bytes]]) -> None:
        self.answer = answer
        self.connection: UpstreamConnection | None = None
        self._head: ResponseHead | None = None
        self._parts: list[bytes] = []
        self._num_bytes = 0

    def on_head(self, head: ResponseHead) -> None:
        self._head = head

    def on_body(self, data: bytes) -> None:
        self._parts.append(data)
        self._num_bytes += len(data)
        if self._num_bytes > _MAX_ANSWER_BYTES:
            self._fail("answer too long")

    def on_end(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.release()
        assert self._head is not None
        if not self.answer.done():
            self.answer.set_result((self._head.status, b"".join(self._parts)))

    def on_lost(self, reason: str) -> None:
        self.connection = None
        self._fail(reason)

    def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abandon()

    def _fail(self, reason: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(FetchFailed(reason))
