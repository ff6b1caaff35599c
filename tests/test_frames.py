"""Messages between the two processes, over a real socket pair."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from shoal.frames import BlockingFrames, FrameProtocol, PeerGone, Splitter, with_length

MESSAGES = [b"", b"a", b"b" * 70_000, bytes(range(256)) * 9]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("size", [1, 3, 4, 5, 1_000, 1 << 20])
def test_pieces_of_any_size_are_put_together(size: int) -> None:
    stream = b"".join(map(with_length, MESSAGES))
    splitter, found = Splitter(), []
    for begin in range(0, len(stream), size):
        splitter.feed(stream[begin : begin + size])
        while (message := splitter.next()) is not None:
            found.append(message)
    assert found == MESSAGES


def test_a_core_looks_without_waiting(pair: tuple[socket.socket, socket.socket]) -> None:
    frames = BlockingFrames(pair[0])
    assert frames.receive(wait=False) is None
    pair[1].sendall(with_length(b"first") + with_length(b"second")[:6])
    assert frames.receive(wait=False) == b"first"
    assert frames.receive(wait=False) is None  # half a message is none
    pair[1].sendall(with_length(b"second")[6:])
    assert frames.receive(wait=True) == b"second"


def test_the_end_of_the_other_process(pair: tuple[socket.socket, socket.socket]) -> None:
    frames = BlockingFrames(pair[0])
    pair[1].sendall(with_length(b"last words"))
    pair[1].close()
    assert frames.receive(wait=True) == b"last words"
    with pytest.raises(PeerGone):
        frames.receive(wait=False)
    with pytest.raises(PeerGone):
        frames.send(b"anybody?")


async def test_both_ends_talk_and_what_was_sent_before_the_end_arrives() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    found: list[bytes] = []
    frames = FrameProtocol(found.append)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_unix_connection(lambda: frames, sock=ours)
    core = BlockingFrames(theirs)
    transport.write(with_length(b"load"))
    assert await asyncio.to_thread(core.receive, wait=True) == b"load"
    await asyncio.to_thread(lambda: [core.send(message) for message in MESSAGES])
    theirs.close()
    await asyncio.wait_for(frames.closed.wait(), 30)
    assert found == MESSAGES
