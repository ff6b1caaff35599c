"""KV cache events on the wire: vLLM's messages over ZeroMQ, so one router reads every engine.

PUB socket, three frames: topic, sequence number (8 bytes, big endian), payload. The payload is the
msgpack array `[timestamp, events, data_parallel_rank]`, each event a map with a `type`. A ROUTER
socket replays: the request is a sequence number, the answers are (empty, topic, number, payload)
from there on, and one with the number -1 ends them. (Schema of vLLM 0.32,
`vllm/distributed/kv_events.py`.)
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec
import zmq

from shoal.errors import ConfigError

from .core.kv_cache_events import AllBlocksCleared as Cleared
from .core.kv_cache_events import BlockRemoved as Removed
from .core.kv_cache_events import BlocksStored as Stored
from .core.kv_cache_events import HostBlockRemoved as HostRemoved
from .core.kv_cache_events import HostBlocksStored as HostStored
from .core.kv_cache_events import KVCacheEvent

BUFFER_STEPS = 10_000
"""Batches kept for replay."""
HIGH_WATER_MARK = 100_000
MEDIUM = "GPU"
"""What vLLM calls the tier that attention reads, whatever the device."""
HOST_MEDIUM = "CPU"
"""And host memory behind it, of whose blocks it tells the hashes alone."""


class BlockStored(msgspec.Struct, tag=True, omit_defaults=True, kw_only=True):
    """Blocks that became findable, in the order of the prompt."""

    block_hashes: list[int]
    parent_block_hash: int | None
    token_ids: list[int]
    block_size: int
    lora_id: int | None
    medium: str | None
    lora_name: str | None
    group_idx: int | None = None


class BlockRemoved(msgspec.Struct, tag=True, omit_defaults=True, kw_only=True):
    """Blocks whose content is gone."""

    block_hashes: list[int]
    medium: str | None
    group_idx: int | None = None


class AllBlocksCleared(msgspec.Struct, tag=True):
    """Nothing is cached any more."""


class KVEventBatch(msgspec.Struct, array_like=True):
    """The payload of one message."""

    ts: float
    events: list[BlockStored | BlockRemoved | AllBlocksCleared]
    data_parallel_rank: int | None = None


def hash_on_wire(block_hash: bytes) -> int:
    """The low 64 bits of a block hash, which is what vLLM publishes by default."""
    return int.from_bytes(block_hash[-8:], "big")


def events_on_wire(
    events: Iterable[KVCacheEvent], *, block_size: int
) -> list[BlockStored | BlockRemoved | AllBlocksCleared]:
    """Events of the core in the words of the wire."""
    wire: list[BlockStored | BlockRemoved | AllBlocksCleared] = []
    for event in events:
        match event:
            case Stored():
                parent = event.parent_block_hash
                wire.append(
                    BlockStored(
                        block_hashes=[hash_on_wire(h) for h in event.block_hashes],
                        parent_block_hash=None if parent is None else hash_on_wire(parent),
                        token_ids=event.token_ids,
                        block_size=block_size,
                        lora_id=None,
                        medium=MEDIUM,
                        lora_name=None,
                        group_idx=event.group or None,
                    )
                )
            case Removed():
                wire.append(
                    BlockRemoved(
                        block_hashes=[hash_on_wire(event.block_hash)],
                        medium=MEDIUM,
                        group_idx=event.group or None,
                    )
                )
            case HostStored():
                wire.append(
                    BlockStored(
                        block_hashes=[hash_on_wire(h) for h in event.block_hashes],
                        parent_block_hash=None,
                        token_ids=[],
                        block_size=block_size,
                        lora_id=None,
                        medium=HOST_MEDIUM,
                        lora_name=None,
                        group_idx=event.group or None,
                    )
                )
            case HostRemoved():
                wire.append(
                    BlockRemoved(
                        block_hashes=[hash_on_wire(event.block_hash)],
                        medium=HOST_MEDIUM,
                        group_idx=event.group or None,
                    )
                )
            case Cleared():
                wire.append(AllBlocksCleared())
    return wire


class KVEventPublisher:
    """Publishes batches and answers replays. Never blocks: a slow subscriber loses messages, sees
    the gap in the numbers, and asks for a replay."""

    def __init__(
        self, endpoint: str, replay_endpoint: str | None = None, *, topic: str = ""
    ) -> None:
        """Bind. Raises ConfigError when an address is taken or wrong."""
        self._topic = topic.encode()
        self._context = zmq.Context()
        self._buffer: deque[tuple[int, bytes]] = deque(maxlen=BUFFER_STEPS)
        self._next = 0
        self._encode = msgspec.msgpack.Encoder().encode
        self._publish = self._context.socket(zmq.PUB)
        self._publish.set_hwm(HIGH_WATER_MARK)
        self._replay = None if replay_endpoint is None else self._context.socket(zmq.ROUTER)
        try:
            self._publish.bind(endpoint)
            if self._replay is not None and replay_endpoint is not None:
                self._replay.bind(replay_endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise ConfigError(
                f"cannot publish KV events on {endpoint}"
                + (f" with replay on {replay_endpoint}" if replay_endpoint else "")
                + f": {error}"
            ) from None

    @property
    def replay_socket(self) -> zmq.Socket[bytes] | None:
        """Readable when a subscriber asks; then call `answer_replays`."""
        return self._replay

    def publish(
        self, events: Sequence[BlockStored | BlockRemoved | AllBlocksCleared], *, now: float
    ) -> None:
        """Send one batch; `now` is Unix time in seconds."""
        payload = self._encode(KVEventBatch(now, list(events)))
        number, self._next = self._next, self._next + 1
        self._buffer.append((number, payload))
        with contextlib.suppress(zmq.Again):
            self._publish.send_multipart(
                (self._topic, number.to_bytes(8, "big"), payload), zmq.NOBLOCK
            )

    def answer_replays(self) -> None:
        """Answer every waiting request; malformed ones are dropped."""
        socket = self._replay
        while socket is not None:
            try:
                client, *rest = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if rest and len(rest[-1]) == 8:
                self._replay_to(socket, client, int.from_bytes(rest[-1], "big"))

    def close(self) -> None:
        """Release sockets and addresses."""
        self._context.destroy(linger=0)

    def _replay_to(self, socket: zmq.Socket[bytes], client: bytes, first: int) -> None:
        end = (-1).to_bytes(8, "big", signed=True)
        with contextlib.suppress(zmq.Again):
            for number, payload in self._buffer:
                if number >= first:
                    frames = (client, b"", self._topic, number.to_bytes(8, "big"), payload)
                    socket.send_multipart(frames, zmq.NOBLOCK)
            socket.send_multipart((client, b"", b"", end, b""), zmq.NOBLOCK)
