"""Following KV events over sockets, from Shoal's own publisher and from one like vLLM's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import zmq

from shoal.clock import MonotonicClock
from shoal.engine.kv_events import BlockStored, KVEventPublisher
from shoal.errors import ConfigError
from shoal.router.fleet.kv_feed import KVFeed
from shoal.router.fleet.kv_subscriber import KVSubscriber, make_context
from shoal.router.messages import KVBlocks
from shoal.router.prefix_hash import exact_root, token_block_hash
from tests.engine.test_kv_events import free_endpoint

from .builders import until
from .test_kv_feed import batch, names

Context = zmq.Context[zmq.Socket[bytes]]


@pytest.fixture
def context() -> Iterator[Context]:
    made = make_context()
    yield made
    made.destroy(linger=0)


class Publisher:
    """Shoal's, with its replays answered by the test's loop."""

    def __init__(self, address: str, replay: str | None) -> None:
        self.publisher = KVEventPublisher(address, replay)
        socket = self.publisher.replay_socket
        self._fd = None if socket is None else socket.fileno()
        if self._fd is not None:
            loop = asyncio.get_running_loop()
            loop.add_reader(self._fd, self.publisher.answer_replays)
            self._poll = asyncio.create_task(self._answer())

    async def _answer(self) -> None:
        while True:  # publishing may take ZeroMQ's one wake-up
            self.publisher.answer_replays()
            await asyncio.sleep(0.01)

    def publish(self, number: int) -> None:
        event = BlockStored(
            block_hashes=[number], parent_block_hash=None, token_ids=[number], block_size=1,
            lora_id=None, medium="GPU", lora_name=None,
        )  # fmt: skip
        self.publisher.publish([event], now=float(number))

    def close(self) -> None:
        if self._fd is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            self._poll.cancel()
        self.publisher.close()


class Following:
    def __init__(self, context: Context, address: str, replay: str | None) -> None:
        self.told: list[KVBlocks] = []
        self.feed = KVFeed("e", can_replay=replay is not None)
        self.subscriber = KVSubscriber(
            context, self.feed, address=address, replay_address=replay,
            on_blocks=self.told.append, clock=MonotonicClock(),
        )  # fmt: skip

    def knows(self, *numbers: int) -> bool:
        return self.feed.blocks.snapshot().stored == names(*numbers)


@pytest.fixture
def addresses() -> tuple[str, str]:
    return free_endpoint(), free_endpoint()


async def test_what_was_published_before_and_after(
    context: Context, addresses: tuple[str, str]
) -> None:
    publisher = Publisher(*addresses)
    publisher.publish(0)
    publisher.publish(1)
    following = Following(context, *addresses)
    await until(lambda: following.knows(0, 1))
    publisher.publish(2)
    await until(lambda: following.knows(0, 1, 2))
    stored = [name for blocks in following.told for name in blocks.stored]
    assert stored == names(0, 1, 2)
    following.subscriber.close()
    publisher.close()


async def test_a_burst_is_read_in_turns(context: Context, addresses: tuple[str, str]) -> None:
    publisher = Publisher(*addresses)
    following = Following(context, *addresses)
    numbers = range(500)
    for number in numbers:
        publisher.publish(number)
    await until(lambda: following.knows(*numbers))
    assert len(following.told) > 1
    following.subscriber.close()
    publisher.close()


async def test_a_restarted_worker_begins_anew(context: Context, addresses: tuple[str, str]) -> None:
    publisher = Publisher(*addresses)
    following = Following(context, *addresses)
    for number in range(3):
        publisher.publish(number)
    await until(lambda: following.knows(0, 1, 2))
    publisher.close()
    publisher = Publisher(*addresses)
    following.subscriber.process_restarted()
    publisher.publish(7)
    await until(lambda: following.knows(7))
    assert any(blocks.cleared for blocks in following.told)
    following.subscriber.close()
    publisher.close()


async def test_a_core_that_restarts_alone_is_noticed_by_its_connection(
    context: Context, addresses: tuple[str, str]
) -> None:
    """Nobody says so, and it publishes nothing: its cache is empty all the same."""
    publisher = Publisher(*addresses)
    following = Following(context, *addresses)
    for number in range(3):
        publisher.publish(number)
    await until(lambda: following.knows(0, 1, 2))
    publisher.close()
    publisher = Publisher(*addresses)
    await until(lambda: following.knows())
    publisher.publish(7)
    await until(lambda: following.knows(7))
    following.subscriber.close()
    publisher.close()


async def test_without_replay(context: Context, addresses: tuple[str, str]) -> None:
    publisher = Publisher(addresses[0], None)
    following = Following(context, addresses[0], None)

    def heard() -> bool:
        publisher.publish(5)
        return following.knows(5)

    await until(heard)
    following.subscriber.close()
    publisher.close()


async def test_replays_without_a_topic(context: Context, addresses: tuple[str, str]) -> None:
    """vLLM's answers have one frame less than Shoal's."""
    ours: Context = zmq.Context()
    router = ours.socket(zmq.ROUTER)
    router.bind(addresses[1])
    following = Following(context, *addresses)
    await until(lambda: router.poll(0))
    client, empty, first = router.recv_multipart()
    assert (empty, first) == (b"", bytes(8))
    for number in range(2):
        router.send_multipart((client, b"", number.to_bytes(8, "big"), batch(number)))
    router.send_multipart((client, b"", b"\xff" * 8, b""))
    await until(lambda: following.knows(0, 1))
    following.subscriber.close()
    ours.destroy(linger=0)


async def test_frames_that_are_none_of_ours(context: Context, addresses: tuple[str, str]) -> None:
    ours: Context = zmq.Context()
    publisher = ours.socket(zmq.PUB)
    publisher.bind(addresses[0])
    following = Following(context, addresses[0], None)

    def heard() -> bool:
        publisher.send_multipart((b"lonely",))
        publisher.send_multipart((b"", b"short", b"x"))
        publisher.send_multipart((b"", bytes(8), batch(0)))
        return following.knows(0)

    await until(heard)
    following.subscriber.close()
    ours.destroy(linger=0)


async def test_a_wrong_address_is_named(context: Context) -> None:
    with pytest.raises(ConfigError, match="tcp//nowhere"):
        Following(context, "tcp//nowhere", None)


def test_a_chain_of_one_is_its_block() -> None:
    assert names(3) == [token_block_hash(exact_root("m", None), [3])]
