"""Broken at random: where h11 and the router both take a message, they take it for the same one.

The messages are those of `smuggling_cases`, with bytes left out, put in or replaced.
"""

from __future__ import annotations

import random

import h11
import pytest

from shoal.router.proxy.answers import answer
from shoal.router.proxy.client import ClientConnection
from shoal.router.proxy.exchange import Exchange
from shoal.router.proxy.gateway import Gateway
from tests.router.compiled_mode import replaces_methods
from tests.router.proxy.fake_transport import FakeTransport
from tests.router.proxy.reference_parsers import Understood, read_by_h11
from tests.router.proxy.smuggling_cases import ALL

NUM_MESSAGES = 1000
PIECES = [
    b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b":", b";", b",", b"0", b"1", b"a", b"\x0b", b"\xff",
    b"chunked", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Host: x\r\n",
    b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"HTTP/1.0",
    b"Expect: 100-continue\r\n", b"0\r\n\r\n", b"5\r\nabcde\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
]  # fmt: skip


def mutate(rng: random.Random, message: bytes) -> bytes:
    for _ in range(rng.choice([1, 1, 2, 3])):
        at = rng.randrange(len(message) + 1)
        put_in = rng.choice([b"", *PIECES])
        left_out = rng.choice([0, 0, 1, 2, 8])
        message = message[:at] + put_in + message[at + left_out :]
    return message


class Reading:
    """A gateway that keeps the requests it is brought, and answers them at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._gateway = Gateway()
        self._seen: list[tuple[str, str, bytes]] = []
        monkeypatch.setattr(self._gateway, "admit", self._admit)

    def _admit(self, exchange: Exchange) -> None:
        request = exchange.request
        self._seen.append((request.method.decode(), request.target.decode("latin-1"), request.body))
        exchange.reply(answer(200, b"{}", keep_alive=exchange.keep_alive), 200)

    def read(self, pieces: list[bytes]) -> list[tuple[str, str, bytes]]:
        self._seen = []
        connection = ClientConnection(self._gateway)
        connection.connection_made(FakeTransport())
        for piece in pieces:
            connection.data_received(piece)
        connection.connection_lost(None)
        return self._seen


@pytest.mark.parametrize("seed", range(4))
@replaces_methods
async def test_two_parsers_and_a_message_broken_at_random(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    reading = Reading(monkeypatch)
    num_taken = 0
    for _ in range(NUM_MESSAGES):
        message = mutate(rng, rng.choice(ALL).message)
        ours = reading.read([message])
        understood: list[Understood] = []
        refused = False
        try:
            read_by_h11(message, understood)
        except h11.RemoteProtocolError:
            refused = True
        theirs = [(request.method, request.target, request.body) for request in understood]
        common = min(len(ours), len(theirs))
        assert ours[:common] == theirs[:common], message
        assert refused or len(ours) <= len(theirs), message
        num_taken += common
    assert num_taken > NUM_MESSAGES // 20


@pytest.mark.parametrize("seed", range(4))
@replaces_methods
async def test_where_a_message_is_cut_makes_no_difference(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    reading = Reading(monkeypatch)
    for _ in range(NUM_MESSAGES):
        message = mutate(rng, rng.choice(ALL).message)
        cuts = sorted(rng.randrange(len(message) + 1) for _ in range(3))
        pieces = [message[i:j] for i, j in zip([0, *cuts], [*cuts, len(message)], strict=True)]
        assert reading.read([message]) == reading.read(pieces), pieces
