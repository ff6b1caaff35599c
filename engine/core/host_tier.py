"""The second, larger and slower home of cached KV blocks: which evicted ones stay, for how long.

A block that is evicted from the prefix cache is copied to a block of host memory, and copied back
when a prompt asks for it. What stays is decided by segmented LRU (Karedla, Love and Wherry, 1994):
blocks that nobody has asked for twice are on probation and displace one another; those that were
found once more, on the device or here, are protected, as long as they are at most three quarters.
So a flood of prompts that come once pushes out nothing that is known to come again.

Invariant: free + on probation + protected = num_blocks. A block that a step in flight copies from
or to is pinned: it stays until that step is over.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence

from .block_pool import BlockKey, EvictedBlock
from .kv_cache_events import HostBlockRemoved, HostBlocksStored, KVCacheEvent
from .output import BlockCopies

PROTECTED_SHARE = 3 / 4
"""Of the tier, at most; the rest lets new blocks live long enough to be found."""


class HostTier:
    """Decides for host blocks as `BlockPool` does for device blocks; copies nothing itself."""

    def __init__(self, num_blocks: int, *, max_saves_per_step: int) -> None:
        self.num_blocks = num_blocks
        self._max_saves = max_saves_per_step
        self._max_protected = int(num_blocks * PROTECTED_SHARE)
        self._free = list(reversed(range(num_blocks)))
        # In eviction order: least recently used first, of a prefix the tail before the head.
        self._probation: OrderedDict[BlockKey, int] = OrderedDict()
        self._protected: OrderedDict[BlockKey, int] = OrderedDict()
        self._pins: Counter[int] = Counter()
        self._loads: list[tuple[int, int]] = []
        self.events: list[KVCacheEvent] | None = None
        """What changed, oldest first, for whoever set a list here and empties it."""

    def __contains__(self, key: BlockKey) -> bool:
        return key in self._probation or key in self._protected

    @property
    def usage(self) -> float:
        """Share of the blocks that hold something, in [0, 1]."""
        return 1 - len(self._free) / self.num_blocks

    def load(self, targets: Iterable[tuple[BlockKey, int]]) -> None:
        """Have blocks that are here copied to device blocks, before the step that is being decided.

        Pass the blocks of a prefix in its order.
        """
        for key, block_id in reversed(list(targets)):
            host_id = self._touch(key, was_hit=True)
            self._pins[host_id] += 1
            self._loads.append((host_id, block_id))

    def take_copies(self, evicted: Sequence[EvictedBlock]) -> BlockCopies:
        """The copies of the step that was decided: what it loads, and what of `evicted` is saved.

        `evicted` is in order of eviction. If not all can be saved, the last are: of a prefix those
        are the first blocks, without which the others are of no use.
        """
        loads, self._loads = self._loads, []
        missing = []
        for block in evicted:
            if block.key in self:
                self._touch(block.key, was_hit=block.was_hit)
            else:
                missing.append(block)
        num_spare = self.num_blocks - len(self._pins)
        saves = []
        for block in missing[max(len(missing) - min(self._max_saves, num_spare), 0) :]:
            host_id = self._free.pop() if self._free else self._evict()
            self._insert(block.key, host_id, was_hit=block.was_hit)
            self._pins[host_id] += 1
            saves.append((block.block_id, host_id))
        if saves and self.events is not None:
            self.events += self._stored_events(missing[-len(saves) :])
        return BlockCopies(saves, loads)

    def end_copies(self, copies: BlockCopies) -> None:
        """A step is over, and its copies with it."""
        used = [host_id for _, host_id in copies.saves]
        used += [host_id for host_id, _ in copies.loads]
        for host_id in used:
            self._pins[host_id] -= 1
            if not self._pins[host_id]:
                del self._pins[host_id]

    def check_integrity(self) -> None:
        """Raise AssertionError unless every block is in one place."""
        held = [*self._probation.values(), *self._protected.values()]
        assert sorted([*held, *self._free]) == list(range(self.num_blocks))
        assert not self._probation.keys() & self._protected.keys()
        assert len(self._protected) <= self._max_protected
        assert all(count > 0 for count in self._pins.values())
        assert self._pins.keys() <= set(held)

    def _touch(self, key: BlockKey, *, was_hit: bool) -> int:
        """Make a block that is here the most recently used one."""
        host_id = self._protected.pop(key, None)
        if host_id is None:
            host_id = self._probation.pop(key)
        else:
            was_hit = True
        self._insert(key, host_id, was_hit=was_hit)
        return host_id

    def _insert(self, key: BlockKey, host_id: int, *, was_hit: bool) -> None:
        if not (was_hit and self._max_protected):
            self._probation[key] = host_id
            return
        self._protected[key] = host_id
        if len(self._protected) > self._max_protected:
            demoted, host_id = self._protected.popitem(last=False)
            self._probation[demoted] = host_id

    def _evict(self) -> int:
        """The block of the entry that goes; there is one that is not pinned."""
        for segment in (self._probation, self._protected):
            for key, host_id in segment.items():
                if host_id not in self._pins:
                    del segment[key]
                    if self.events is not None:
                        self.events.append(HostBlockRemoved(group=key[0], block_hash=key[1]))
                    return host_id
        raise AssertionError("every block is pinned")

    def _stored_events(self, saved: Sequence[EvictedBlock]) -> list[HostBlocksStored]:
        by_group: dict[int, list[bytes]] = {}
        for block in saved:
            by_group.setdefault(block.key[0], []).append(block.key[1])
        return [HostBlocksStored(block_hashes=h, group=group) for group, h in by_group.items()]
