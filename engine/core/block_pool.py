"""The pool of KV cache blocks: who holds which, and which content is still findable.

Invariant: every block but the null block 0 is *in use* (`ref_cnt > 0`), *cached* (free, but its
content is findable by hash) or *free*; free + cached + in use = num_blocks - 1. Free and cached
blocks wait in one queue in eviction order: empty ones first, then the least recently used.
All operations cost O(1) a block.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from .kv_cache_events import AllBlocksCleared, BlockRemoved, KVCacheEvent

NULL_BLOCK = 0
"""Stands in block tables for tokens that are not there; never allocated, never freed."""

BlockKey = tuple[int, bytes]
"""(KV cache group, block hash): the same tokens have one block per group."""


@dataclass(frozen=True, slots=True)
class EvictedBlock:
    """What a block held before it was given away, and whether a prefix had hit it."""

    block_id: int
    key: BlockKey
    was_hit: bool


class BlockPool:
    """Hands out block ids, counts references, and evicts cached blocks in LRU order."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._ref_cnt = [0] * num_blocks
        self._key: list[BlockKey | None] = [None] * num_blocks
        self._block_of: dict[BlockKey, int] = {}
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, num_blocks))
        self._was_hit = [False] * num_blocks
        self.events: list[KVCacheEvent] | None = None
        """What changed, oldest first, for whoever set a list here and empties it."""
        self.evicted: list[EvictedBlock] | None = None
        """What was given away while it could be found, likewise."""

    @property
    def num_free(self) -> int:
        """Blocks that can be allocated now, cached ones included."""
        return len(self._free)

    @property
    def num_cached(self) -> int:
        """Free blocks whose content can still be found."""
        return sum(self._key[block_id] is not None for block_id in self._free)

    @property
    def usage(self) -> float:
        """Share of the pool in use, in [0, 1]."""
        usable = self.num_blocks - 1
        return (usable - len(self._free)) / usable

    def allocate(self, num_blocks: int) -> list[int] | None:
        """Take blocks, evicting cached content where needed; None (and no change) when too few."""
        free, keys, ref_cnt = self._free, self._key, self._ref_cnt
        if num_blocks > len(free):
            return None
        taken = list(islice(free, num_blocks))
        for block_id in taken:
            del free[block_id]
            ref_cnt[block_id] = 1
            if (key := keys[block_id]) is not None:
                del self._block_of[key]
                keys[block_id] = None
                if self.evicted is not None:
                    self.evicted.append(EvictedBlock(block_id, key, self._was_hit[block_id]))
                self._was_hit[block_id] = False
                if self.events is not None:
                    self.events.append(BlockRemoved(group=key[0], block_hash=key[1]))
        return taken

    def find(self, key: BlockKey) -> int | None:
        """The block that holds this content, in use or cached."""
        return self._block_of.get(key)

    def num_free_among(self, block_ids: Iterable[int]) -> int:
        """How many of these found blocks would leave the free queue when touched."""
        return sum(self._ref_cnt[block_id] == 0 for block_id in block_ids)

    def touch(self, block_ids: Iterable[int]) -> None:
        """Add a reference to blocks that `find` returned; null blocks are passed over."""
        for block_id in block_ids:
            if block_id == NULL_BLOCK:
                continue
            if self._ref_cnt[block_id] == 0:
                del self._free[block_id]
            self._ref_cnt[block_id] += 1
            self._was_hit[block_id] = True

    def free(self, block_ids: Iterable[int]) -> None:
        """Drop a reference each. Pass the blocks to be evicted first, first."""
        for block_id in block_ids:
            if block_id == NULL_BLOCK:
                continue
            self._ref_cnt[block_id] -= 1
            if self._ref_cnt[block_id] == 0:
                self._free[block_id] = None
                if self._key[block_id] is None:
                    self._free.move_to_end(block_id, last=False)

    def publish(self, block_id: int, key: BlockKey) -> bool:
        """Make a full block findable; whether it is the one found. The first holder of a content
        stays it: block tables are append-only, so a duplicate is never swapped out of a request."""
        if self._block_of.setdefault(key, block_id) != block_id:
            return False
        self._key[block_id] = key
        return True

    def forget_cached(self) -> None:
        """Make no content findable any more, e.g. after the weights changed."""
        for block_id in self._block_of.values():
            self._key[block_id] = None
        self._block_of.clear()
        if self.events is not None:
            self.events.append(AllBlocksCleared())

    def check_integrity(self, held: Counter[int]) -> None:
        """Raise AssertionError unless the books balance; `held` counts table entries by block."""
        assert NULL_BLOCK not in self._free
        assert NULL_BLOCK not in self._block_of.values()
        for block_id in range(1, self.num_blocks):
            assert self._ref_cnt[block_id] == held[block_id], f"ref_cnt of block {block_id}"
            assert (block_id in self._free) == (held[block_id] == 0), f"block {block_id} lost"
            key = self._key[block_id]
            assert key is None or self._block_of[key] == block_id, f"key of block {block_id}"
        assert sum(key is not None for key in self._key) == len(self._block_of)
