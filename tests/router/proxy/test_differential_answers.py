"""Answers broken at random: whole ones are read as h11 reads them, wherever they are cut."""

from __future__ import annotations

import random

import h11
import pytest

from shoal.router.proxy.outbox import Outbox
from shoal.router.proxy.pool import Address, Pool
from shoal.router.proxy.response_head import ResponseHead
from shoal.router.proxy.upstream import UpstreamConnection
from shoal.router.settings.listen import UpstreamConfig
from tests.router.proxy.fake_transport import FakeTransport
from tests.router.proxy.test_differential import NUM_MESSAGES, mutate

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
WHOLE = [
    HEAD + b"content-length: 5\r\n\r\nhello",
    HEAD + b"\r\nhello",
    HEAD + b"connection: close\r\ncontent-length: 5\r\n\r\nhello",
    CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
    CHUNKED + b"5;x=y\r\nhello\r\n0\r\nx-trailer: 1\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nhello",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
    b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\n" + CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
]


class Reader:
    """One connection that is asked once; says what it was answered."""

    def __init__(self, *, wants_payload: bool) -> None:
        outbox = Outbox()
        pool = Pool(Address("http://127.0.0.1:1"), UpstreamConfig(), outbox, tls=None)
        self._connection = UpstreamConnection(pool)
        self._transport = FakeTransport()
        self._connection.connection_made(self._transport)
        self._connection.send(self, b"request", wants_payload=wants_payload)
        outbox.flush()
        self._status: int | None = None
        self._body = b""
        self._is_whole = False

    def read(self, pieces: list[bytes]) -> tuple[int, bytes] | None:
        """Status and body, if they are whole."""
        for piece in pieces:
            if piece and not self._transport.is_closed:
                self._connection.data_received(piece)
        self._connection.connection_lost(None)
        if not self._is_whole:
            return None
        assert self._status is not None
        return self._status, self._body

    def on_head(self, head: ResponseHead) -> None:
        self._status = head.status

    def on_body(self, data: bytes) -> None:
        self._relay(data)
        self._connection.relay = self._relay

    def _relay(self, data: bytes) -> None:
        self._body += data

    def on_end(self) -> None:
        self._is_whole = True
        self._connection.release()

    def on_lost(self, reason: str) -> None:
        pass


def by_h11(message: bytes) -> tuple[int, bytes] | None:
    """Status and body, if they are whole."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="POST", target="/", headers=[("host", "router")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(message)
    parser.receive_data(b"")
    status, body = 0, b""
    while True:
        try:
            event = parser.next_event()
        except h11.RemoteProtocolError:
            return None
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return status, body
        elif event is h11.PAUSED:
            return None


def cut(rng: random.Random, message: bytes) -> list[bytes]:
    cuts = sorted(rng.randrange(len(message) + 1) for _ in range(3))
    return [message[i:j] for i, j in zip([0, *cuts], [*cuts, len(message)], strict=True)]


@pytest.mark.parametrize("seed", range(3))
async def test_answers_broken_at_random(seed: int) -> None:
    rng = random.Random(seed)
    num_whole = 0
    for _ in range(NUM_MESSAGES):
        message = mutate(rng, rng.choice(WHOLE))
        pieces = cut(rng, message)
        ours = Reader(wants_payload=True).read([message])
        theirs = by_h11(message)
        if ours is None:
            continue
        if theirs is not None:
            assert ours == theirs, message
            num_whole += 1
        assert Reader(wants_payload=True).read(pieces) == ours, pieces
        # With its framing the body comes as it was written, however it was cut.
        relayed = Reader(wants_payload=False).read([message])
        assert relayed is not None
        assert Reader(wants_payload=False).read(pieces) == relayed, pieces
    assert num_whole > NUM_MESSAGES // 20
