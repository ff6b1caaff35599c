"""KV cache events as vLLM and its kin write them: msgpack, in every encoding seen so far.

vLLM's schema (`vllm/distributed/kv_events.py`) was arrays with a tag at first, then maps within an
array, then maps all through; fields were added at the end each time. SGLang writes the arrays. A
block hash is an integer of 64 bits, or bytes. A field that we do not read may hold anything.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

BlockHash: TypeAlias = int | bytes
"""The worker's name of a block: opaque."""


class BlockStored(msgspec.Struct, tag=True, kw_only=True, gc=False):
    """Blocks that became findable, in the order of the prompt."""

    block_hashes: list[BlockHash]
    parent_block_hash: BlockHash | None = None
    token_ids: list[int]
    block_size: int
    lora_id: Any = None
    medium: str | None = None
    lora_name: str | None = None
    extra_keys: Any = None
    """For each block what its hash covers besides tokens: adapter, cache salt, images."""
    group_idx: Any = None


class BlockRemoved(msgspec.Struct, tag=True, kw_only=True, gc=False):
    """Blocks whose content is gone."""

    block_hashes: list[BlockHash]
    medium: str | None = None
    group_idx: Any = None


class AllBlocksCleared(msgspec.Struct, tag=True, gc=False):
    """Nothing is cached any more."""


KVEvent: TypeAlias = BlockStored | BlockRemoved | AllBlocksCleared


class KVEventBatch(msgspec.Struct, gc=False):
    """The payload of one message."""

    ts: float
    """Unix time in seconds, by the worker's clock."""
    events: list[KVEvent]
    data_parallel_rank: int | None = None


class _StoredArray(msgspec.Struct, tag="BlockStored", array_like=True, gc=False):
    block_hashes: list[BlockHash]
    parent_block_hash: BlockHash | None
    token_ids: list[int]
    block_size: int
    lora_id: Any = None
    medium: str | None = None
    lora_name: Any = None
    extra_keys: Any = None
    group_idx: Any = None


class _RemovedArray(msgspec.Struct, tag="BlockRemoved", array_like=True, gc=False):
    block_hashes: list[BlockHash]
    medium: str | None = None
    group_idx: Any = None


class _ClearedArray(msgspec.Struct, tag="AllBlocksCleared", array_like=True, gc=False):
    pass


_EventArray: TypeAlias = _StoredArray | _RemovedArray | _ClearedArray


class _ArrayOfMaps(msgspec.Struct, array_like=True, gc=False):
    ts: float
    events: list[KVEvent]
    data_parallel_rank: int | None = None


class _ArrayOfArrays(msgspec.Struct, array_like=True, gc=False):
    ts: float
    events: list[_EventArray]
    data_parallel_rank: int | None = None


class _MapOfArrays(msgspec.Struct, gc=False):
    ts: float
    events: list[_EventArray]
    data_parallel_rank: int | None = None


_Batch: TypeAlias = KVEventBatch | _ArrayOfMaps | _ArrayOfArrays | _MapOfArrays
_Decoder: TypeAlias = msgspec.msgpack.Decoder[Any]


class KVEventDecoder:
    """Decodes the batches of one worker; remembers the encoding that fitted."""

    def __init__(self) -> None:
        self._decoders: list[_Decoder] = [
            msgspec.msgpack.Decoder(kind)
            for kind in (_ArrayOfMaps, _ArrayOfArrays, KVEventBatch, _MapOfArrays)
        ]

    def decode(self, payload: bytes) -> KVEventBatch | None:
        """None: in no encoding that we know."""
        for index, decoder in enumerate(self._decoders):
            try:
                batch: _Batch = decoder.decode(payload)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            if index:
                self._decoders.insert(0, self._decoders.pop(index))
            if isinstance(batch, KVEventBatch):
                return batch
            return KVEventBatch(
                batch.ts, [_event(event) for event in batch.events], batch.data_parallel_rank
            )
        return None


def _event(event: KVEvent | _EventArray) -> KVEvent:
    match event:
        case _StoredArray():
            return BlockStored(
                block_hashes=event.block_hashes,
                parent_block_hash=event.parent_block_hash,
                token_ids=event.token_ids,
                block_size=event.block_size,
                medium=event.medium,
                lora_name=event.lora_name if isinstance(event.lora_name, str) else None,
                extra_keys=event.extra_keys,
                group_idx=event.group_idx,
            )
        case _RemovedArray():
            return BlockRemoved(
                block_hashes=event.block_hashes, medium=event.medium, group_idx=event.group_idx
            )
        case _ClearedArray():
            return AllBlocksCleared()
        case _:
            return event
