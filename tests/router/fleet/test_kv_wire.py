"""Encodings of KV events that workers are known to write."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shoal.engine import kv_events as shoal_events
from shoal.router.fleet.kv_wire import (
    AllBlocksCleared,
    BlockRemoved,
    BlockStored,
    KVEventDecoder,
)

STORED_MAP = {
    "type": "BlockStored", "block_hashes": [1, 2], "parent_block_hash": None,
    "token_ids": [5, 6, 7, 8], "block_size": 2, "lora_id": None, "medium": "GPU",
    "lora_name": "sql", "extra_keys": [["sql"], None], "group_idx": 0,
    "kv_cache_spec_kind": "full",
}  # fmt: skip
STORED_ARRAY = [
    "BlockStored",
    [1, 2],
    None,
    [5, 6, 7, 8],
    2,
    None,
    "GPU",
    "sql",
    [["sql"], None],
    0,
]
EVENTS_MAP: list[Any] = [
    STORED_MAP,
    {"type": "BlockRemoved", "block_hashes": [1], "medium": "GPU"},
    {"type": "AllBlocksCleared"},
]
EVENTS_ARRAY: list[Any] = [STORED_ARRAY, ["BlockRemoved", [1], "GPU"], ["AllBlocksCleared"]]


@pytest.mark.parametrize(
    "batch",
    [
        [12.5, EVENTS_MAP, 0],
        [12.5, EVENTS_ARRAY],
        {"ts": 12.5, "events": EVENTS_MAP, "data_parallel_rank": 0},
        {"ts": 12.5, "events": EVENTS_ARRAY},
    ],
    ids=["array of maps", "array of arrays", "map of maps", "map of arrays"],
)
def test_every_encoding_says_the_same(batch: Any) -> None:
    decoded = KVEventDecoder().decode(msgspec.msgpack.encode(batch))
    assert decoded is not None
    assert decoded.ts == 12.5
    stored, removed, cleared = decoded.events
    assert isinstance(stored, BlockStored)
    assert (stored.block_hashes, stored.token_ids, stored.block_size) == ([1, 2], [5, 6, 7, 8], 2)
    assert (stored.medium, stored.lora_name) == ("GPU", "sql")
    assert stored.extra_keys == [["sql"], None]
    assert removed == BlockRemoved(block_hashes=[1], medium="GPU")
    assert cleared == AllBlocksCleared()


def test_the_arrays_of_old_workers_end_early() -> None:
    payload = msgspec.msgpack.encode([1.0, [["BlockStored", [1], None, [5, 6], 2, None]]])
    decoded = KVEventDecoder().decode(payload)
    assert decoded is not None
    (stored,) = decoded.events
    assert isinstance(stored, BlockStored)
    assert (stored.medium, stored.lora_name, stored.group_idx) == (None, None, None)


def test_hashes_may_be_bytes() -> None:
    event = {**STORED_MAP, "block_hashes": [b"a" * 32, b"b" * 32], "parent_block_hash": b"c" * 32}
    decoded = KVEventDecoder().decode(msgspec.msgpack.encode([1.0, [event]]))
    assert decoded is not None
    (stored,) = decoded.events
    assert isinstance(stored, BlockStored)
    assert stored.parent_block_hash == b"c" * 32


def test_what_shoal_publishes() -> None:
    event = shoal_events.BlockStored(
        block_hashes=[1], parent_block_hash=None, token_ids=[5, 6], block_size=2,
        lora_id=None, medium="GPU", lora_name=None,
    )  # fmt: skip
    payload = msgspec.msgpack.encode(shoal_events.KVEventBatch(3.0, [event]))
    decoded = KVEventDecoder().decode(payload)
    assert decoded is not None
    assert decoded.events == [
        BlockStored(block_hashes=[1], token_ids=[5, 6], block_size=2, medium="GPU")
    ]


def test_a_worker_may_change_its_encoding() -> None:
    decoder = KVEventDecoder()
    for batch in ([1.0, EVENTS_ARRAY], {"ts": 1.0, "events": EVENTS_MAP}, [1.0, EVENTS_MAP]) * 2:
        assert decoder.decode(msgspec.msgpack.encode(batch)) is not None


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc1", msgspec.msgpack.encode([1.0, [{"type": "BlockMoved"}]]),
     msgspec.msgpack.encode([1.0, [["BlockStored", "x"]]]), msgspec.msgpack.encode("hello")],
)  # fmt: skip
def test_what_nobody_writes_is_none(payload: bytes) -> None:
    assert KVEventDecoder().decode(payload) is None
