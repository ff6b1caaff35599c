"""One worker's prefix cache in router hashes, told as changes. Pure.

A worker names its blocks by hashes of its own making; its events also carry the token ids, so each
stored block gets the router's name: the chain `prefix_hash.token_hashes` from `exact_root`. The map
from the one name to the other is bounded: beyond `max_blocks` the oldest are forgotten, and told as
removed. Invariant: what was told and not taken back is exactly the values of the map.
"""

from __future__ import annotations

from typing import Any

from xxhash import xxh3_64_intdigest

from ..messages import KVBlocks
from ..prefix_hash import exact_root, token_hashes
from .kv_wire import AllBlocksCleared, BlockHash, BlockRemoved, BlockStored, KVEvent

MAX_BLOCKS = 1 << 20
"""Of one worker: 16 million tokens at the usual block size, and at most 250 MB here."""
GPU = (None, "GPU")
"""The tier that attention reads, and what older workers say of it: nothing."""


class KVBlockMap:
    """What one worker has cached, and what of it has not been told yet."""

    def __init__(self, endpoint_id: str, *, max_blocks: int = MAX_BLOCKS) -> None:
        self._endpoint_id = endpoint_id
        self._max_blocks = max_blocks
        self._hashes: dict[BlockHash, int] = {}
        """Router hash by worker hash, in the order they were stored: parents before children."""
        self._uses: dict[int, int] = {}
        """Worker hashes by router hash: more than one where a cache salt is not told."""
        self._stored: dict[int, None] = {}
        self._removed: set[int] = set()
        self._cleared = False
        self.block_size = 0
        """Tokens of a block; 0: nothing was stored yet."""
        self.num_missing_parents = 0
        """Stored events left out because the block before them is unknown."""
        self.num_malformed = 0
        """Stored events left out because they contradict themselves."""
        self.num_forgotten = 0
        """Blocks taken back because the map was full."""

    def __len__(self) -> int:
        return len(self._hashes)

    def apply(self, event: KVEvent) -> None:
        """One event, in order."""
        match event:
            case BlockStored():
                if event.medium in GPU and not event.group_idx:
                    self._store(event)
            case BlockRemoved():
                if event.medium in GPU and not event.group_idx:
                    for block_hash in event.block_hashes:
                        self._remove(block_hash)
            case AllBlocksCleared():
                self.clear()

    def clear(self) -> None:
        """Nothing is cached, or nobody knows what."""
        self._hashes.clear()
        self._uses.clear()
        self._stored.clear()
        self._removed.clear()
        self._cleared = True

    def take(self) -> KVBlocks | None:
        """What changed since the last time; None: nothing. No hash is both stored and removed."""
        if not (self._cleared or self._stored or self._removed):
            return None
        changes = KVBlocks(
            self._endpoint_id, list(self._stored), list(self._removed), self._cleared
        )
        self._stored, self._removed, self._cleared = {}, set(), False
        return changes

    def snapshot(self) -> KVBlocks:
        """All of it, for somebody who knows nothing. What `take` has yet to tell is in it too, and
        does no harm when it is told again."""
        return KVBlocks(self._endpoint_id, list(self._uses), [], cleared=True)

    def _store(self, event: BlockStored) -> None:
        block_hashes, size = event.block_hashes, event.block_size
        if size <= 0 or len(event.token_ids) < size * len(block_hashes):
            self.num_malformed += 1
            return
        salt, contents = _extra_keys(event)
        if event.parent_block_hash is not None:
            parent = self._hashes.get(event.parent_block_hash)
            if parent is None:
                self.num_missing_parents += 1
                return
        else:
            parent = exact_root(None, event.lora_name, salt)
        try:
            hashes = _hashes(event, parent, contents)
        except (OverflowError, TypeError):  # a token id below 0 or beyond 32 bits
            self.num_malformed += 1
            return
        self.block_size = size
        known, uses = self._hashes, self._uses
        for block_hash, router_hash in zip(block_hashes, hashes, strict=False):
            if block_hash in known:
                continue
            known[block_hash] = router_hash
            count = uses.get(router_hash, 0)
            uses[router_hash] = count + 1
            if not count:
                if router_hash in self._removed:
                    self._removed.discard(router_hash)
                else:
                    self._stored[router_hash] = None
        while len(known) > self._max_blocks:
            self._remove(next(iter(known)))
            self.num_forgotten += 1

    def _remove(self, block_hash: BlockHash) -> None:
        router_hash = self._hashes.pop(block_hash, None)
        if router_hash is None:
            return
        count = self._uses[router_hash] - 1
        if count:
            self._uses[router_hash] = count
            return
        del self._uses[router_hash]
        if router_hash in self._stored:
            del self._stored[router_hash]
        else:
            self._removed.add(router_hash)


def _extra_keys(event: BlockStored) -> tuple[str | None, list[list[Any]]]:
    """The cache salt, and what else the hash of each block covers besides tokens and adapter.

    vLLM lists adapter, images, salt in this order, and the salt on a prompt's first block only.
    """
    if not isinstance(event.extra_keys, list) or not any(event.extra_keys):
        return None, []
    known = (event.lora_name, event.lora_id)
    contents = [
        [key for key in keys if key not in known] if isinstance(keys, list) else []
        for keys in event.extra_keys
    ]
    salt = None
    if event.parent_block_hash is None and contents[0] and isinstance(contents[0][-1], str):
        salt = contents[0].pop()
    return salt, contents if any(contents) else []


def _hashes(event: BlockStored, parent: int, contents: list[list[Any]]) -> tuple[int, ...]:
    """Names of the blocks. One that covers an image gets a name that no prompt of plain text has:
    the token ids there are the same for every image."""
    size = event.block_size
    if not contents:
        return token_hashes(event.token_ids, size, parent)
    hashes = []
    for index in range(len(event.block_hashes)):
        if index < len(contents) and contents[index]:
            parent = xxh3_64_intdigest(repr(contents[index]).encode(), parent)
        tokens = event.token_ids[index * size : (index + 1) * size]
        (parent,) = token_hashes(tokens, size, parent)
        hashes.append(parent)
    return tuple(hashes)
