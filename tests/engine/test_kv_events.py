"""KV events as subscribers see them."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import msgspec
import pytest
import zmq

from shoal.engine.core.kv_cache_events import AllBlocksCleared as Cleared
from shoal.engine.core.kv_cache_events import BlockRemoved as Removed
from shoal.engine.core.kv_cache_events import BlocksStored as Stored
from shoal.engine.core.kv_cache_events import HostBlockRemoved as HostRemoved
from shoal.engine.core.kv_cache_events import HostBlocksStored as HostStored
from shoal.engine.kv_events import KVEventPublisher, events_on_wire, hash_on_wire
from shoal.errors import ConfigError
from tests.ports import free_port

HASHES = [bytes([i]) * 32 for i in (1, 2)]
EVENTS = [
    Stored(block_hashes=HASHES, parent_block_hash=None, token_ids=[1, 2, 3, 4], group=0),
    Removed(block_hash=HASHES[0], group=0),
    Cleared(),
]


def free_endpoint() -> str:
    return f"tcp://127.0.0.1:{free_port()}"


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    made = zmq.Context()
    yield made
    made.destroy(linger=0)


def test_events_are_maps_in_vllms_words() -> None:
    wire = events_on_wire(EVENTS, block_size=2)
    stored, removed, cleared = msgspec.msgpack.decode(msgspec.msgpack.encode(wire))
    assert stored == {
        "type": "BlockStored",
        "block_hashes": [0x0101010101010101, 0x0202020202020202],
        "parent_block_hash": None,
        "token_ids": [1, 2, 3, 4],
        "block_size": 2,
        "lora_id": None,
        "medium": "GPU",
        "lora_name": None,
    }
    assert removed == {
        "type": "BlockRemoved",
        "block_hashes": [0x0101010101010101],
        "medium": "GPU",
    }
    assert cleared == {"type": "AllBlocksCleared"}


def test_blocks_in_host_memory_are_told_by_their_hashes() -> None:
    """As vLLM tells of what it offloads: another medium, no tokens, no parent."""
    events = [
        HostStored(block_hashes=HASHES, group=0),
        HostRemoved(block_hash=HASHES[0], group=1),
    ]
    stored, removed = msgspec.to_builtins(events_on_wire(events, block_size=2))
    assert (stored["type"], stored["medium"]) == ("BlockStored", "CPU")
    assert stored["block_hashes"] == [hash_on_wire(h) for h in HASHES]
    assert (stored["parent_block_hash"], stored["token_ids"]) == (None, [])
    assert (removed["type"], removed["medium"], removed["group_idx"]) == ("BlockRemoved", "CPU", 1)


def test_a_child_names_its_parent_and_its_group() -> None:
    event = Stored(block_hashes=HASHES[1:], parent_block_hash=HASHES[0], token_ids=[3, 4], group=1)
    (wire,) = msgspec.to_builtins(events_on_wire([event], block_size=2))
    assert wire["parent_block_hash"] == hash_on_wire(HASHES[0])
    assert wire["group_idx"] == 1


def test_subscribers_get_numbered_batches(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    endpoint = free_endpoint()
    publisher = KVEventPublisher(endpoint, topic="kv")
    subscriber = context.socket(zmq.SUB)
    subscriber.subscribe(b"kv")
    subscriber.connect(endpoint)
    wire = events_on_wire(EVENTS, block_size=2)
    try:
        number = 0
        while not subscriber.poll(50):  # until the subscription has arrived
            publisher.publish(wire, now=1.5)
            number += 1
            assert number < 200
        topic, sequence, payload = subscriber.recv_multipart()
    finally:
        subscriber.close()
        publisher.close()
    assert topic == b"kv"
    assert 0 <= int.from_bytes(sequence, "big") < number
    time, events, rank = msgspec.msgpack.decode(payload)
    assert (time, len(events), rank) == (1.5, 3, None)


def test_what_was_missed_can_be_asked_for(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    replay = free_endpoint()
    publisher = KVEventPublisher(free_endpoint(), replay)
    for number in range(5):
        publisher.publish([], now=float(number))
    asking = context.socket(zmq.DEALER)
    asking.connect(replay)
    asking.send_multipart([b"", b"nonsense, not a number"])  # dropped
    asking.send_multipart([b"", (3).to_bytes(8, "big")])
    try:
        assert publisher.replay_socket is not None
        got: list[list[bytes]] = []
        while not got or got[-1][2] != (-1).to_bytes(8, "big", signed=True):
            publisher.replay_socket.poll(50)
            publisher.answer_replays()
            while asking.poll(20):
                got.append(asking.recv_multipart())
    finally:
        asking.close()
        publisher.close()
    assert [int.from_bytes(frames[2], "big") for frames in got[:-1]] == [3, 4]
    assert [msgspec.msgpack.decode(frames[3])[0] for frames in got[:-1]] == [3.0, 4.0]
    assert all(frames[0] == b"" for frames in got)


def test_the_buffer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal.engine.kv_events.BUFFER_STEPS", 3)
    publisher = KVEventPublisher(free_endpoint())
    for number in range(10):
        publisher.publish([], now=float(number))
    publisher.close()
    assert [number for number, _ in publisher._buffer] == [7, 8, 9]


@pytest.mark.parametrize("where", [0, 1])
def test_an_address_that_is_taken(where: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoints = [free_endpoint(), free_endpoint()]
        endpoints[where] = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match="cannot publish KV events"):
            KVEventPublisher(*endpoints)


def test_closing_frees_the_address() -> None:
    endpoint = free_endpoint()
    for _ in range(2):
        KVEventPublisher(endpoint).close()
