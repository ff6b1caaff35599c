"""Which endpoint probably has which prefix: a mirror of every worker's cache, kept by what was
sent.

Approximate mode. Each endpoint has a mirror, least recently used first, as large as the worker's
own cache; one inverted map gives for each chunk hash the set of endpoints whose mirror has it, as
the bits of an int. Invariants: a bit is set in the map exactly when the hash is in that mirror;
and an endpoint that has a chunk has all chunks before it, because `record` touches a whole
prompt, its first chunk last, and what goes first is the oldest. So the sets only shrink along a
prompt, and bisection finds each border: a look-up costs a few dozen dictionary reads however long
the prompt.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from .endpoint_sets import EndpointSets

SHARED: Final = 1
"""Bit 0 of a set: the prefix ending in this chunk is not one conversation's own, because another
prompt went on from it or ended at it too. The bits above are endpoints."""
ENDPOINTS: Final = ~SHARED

DEFAULT_CAPACITY: Final = 16_384
"""Chunks of a mirror until the worker says how large its cache is: a million tokens."""

LINEAR: Final = 64
"""Up to so many chunks a walk is faster than a bisection."""
MAX_SETS = 65_536
"""Different sets of endpoints that are shared between blocks; then sharing starts over."""
PURGE_BATCH: Final = 64
"""Chunks of forgotten endpoints that one `record` clears away."""


Match = tuple[dict[str, int], bool, int]
"""What is known of a prompt: how many leading hashes each endpoint has; whether the deepest match
is one conversation's own; and who has it, for `PrefixIndex.deepest`.

It is one conversation's own when nothing else has gone on from there or ended there: then these are
most likely its next words. A system prompt that all share is not. A plain tuple, made per request.
"""

NO_MATCH: Final[Match] = ({}, False, 0)


class Mirror:
    """One endpoint's cache as we believe it to be."""

    __slots__ = ("bit", "capacity", "chunks")

    def __init__(self, bit: int, capacity: int) -> None:
        self.bit = bit
        self.capacity = capacity
        self.chunks: dict[int, None] = {}
        """Oldest first."""


class PrefixIndex:
    """Chunk hashes -> endpoints, bounded by each worker's cache and by `max_blocks` in all.

    `matched` takes microseconds; `record` about 0.2 us a chunk; `forget` is done in small steps by
    the calls that follow.
    """

    def __init__(self, *, max_blocks: int = 1_000_000) -> None:
        if max_blocks < 1:
            raise ValueError(f"max_blocks must be 1 or more, got {max_blocks}")
        self.max_blocks = max_blocks
        self.num_blocks = 0
        """Chunks in all mirrors together, forgotten ones that still wait to be cleared included."""
        self.fill: dict[str, float] = {}
        """Share of each endpoint's mirror that is in use, in [0, 1]; for scorers, not to be
        changed."""
        self._holders: dict[int, int] = {}
        self._sets: dict[int, int] = {}  # equal sets are one object: they are few
        self._mirrors: dict[str, Mirror] = {}
        self._endpoints = EndpointSets()
        self._free_places: list[int] = []
        self._graveyard: list[Mirror] = []
        self._capacities: dict[str, int] = {}

    def matched(self, hashes: Sequence[int]) -> dict[str, int]:
        """How many leading hashes each endpoint has; those that have none are left out."""
        return self.look_up(hashes)[0]

    def look_up(self, hashes: Sequence[int]) -> Match:
        """`matched`, and what else is known of the deepest match."""
        if not hashes:
            return NO_MATCH
        levels, own = (self._walk if len(hashes) <= LINEAR else self._bisect)(hashes)
        if not levels:
            return NO_MATCH
        return self._endpoints.depths(levels), own, levels[-1][1]

    def _walk(self, hashes: Sequence[int]) -> tuple[list[tuple[int, int]], bool]:
        """Levels: (depth, endpoints that have so much and maybe more), shallow first."""
        levels = []
        holders = self._endpoints.alive
        previous = last = 0
        depth = 0
        for found in map(self._holders.get, hashes):
            if found is not previous:  # equal sets are mostly one object
                if found is None:
                    break
                remaining = found & holders
                if remaining != holders:
                    if depth:
                        levels.append((depth, holders))
                    holders = remaining
                    if not holders:
                        break
                previous = found
            last = found
            depth += 1
        if depth and holders:
            levels.append((depth, holders))
        return levels, bool(depth) and not last & SHARED

    def _bisect(self, hashes: Sequence[int]) -> tuple[list[tuple[int, int]], bool]:
        """The same for prompts of many chunks."""
        levels = []
        own = False
        get = self._holders.get
        alive = self._endpoints.alive
        end = len(hashes)
        start = 0
        found = get(hashes[0], 0)
        holders = found & alive
        while holders:
            # The last chunk that all of `holders` have: sets only shrink along the prompt.
            low, high = start, end
            while high - low > 1:
                middle = (low + high) // 2
                here = get(hashes[middle], 0)
                if here & alive == holders:
                    low = middle
                    found = here
                else:
                    high = middle
            start = low + 1
            own = not found & SHARED
            levels.append((start, holders))
            found = get(hashes[start], 0) if start < end else 0
            holders &= found
        return levels, own

    def deepest(self, match: Match, most: int) -> Collection[str]:
        """The endpoints of the deepest match, or none if they are more than `most`."""
        bits = match[2]
        return self._endpoints.names(bits) if bits.bit_count() <= most else ()

    def record(self, endpoint_id: str, hashes: Sequence[int]) -> None:
        """A prompt was sent to an endpoint: it will have these chunks, and they are its newest."""
        if self._graveyard:
            self._purge()
        if not hashes:
            return
        mirror = self._mirrors.get(endpoint_id) or self._add(endpoint_id)
        if len(hashes) > mirror.capacity:
            hashes = hashes[: mirror.capacity]
        chunks = mirror.chunks
        holders = self._holders
        sets = self._sets
        bit = mirror.bit
        self._note_sharing(hashes)
        # What is new has the next chunk of this prompt after it, unless it is the last one.
        mark = 0
        before = len(chunks)
        for chunk in reversed(hashes):
            if chunk in chunks:
                del chunks[chunk]  # to the end: the newest
            else:
                bits = holders.get(chunk)
                bits = bit | mark if bits is None else bits | bit
                holders[chunk] = sets.setdefault(bits, bits)
            mark = SHARED
            chunks[chunk] = None
        self.num_blocks += len(chunks) - before
        excess = len(chunks) - mirror.capacity
        # In batches: looking for the oldest entry of a dict costs what was deleted before it.
        if excess > mirror.capacity >> 4:
            self._evict(mirror, excess)
        if self.num_blocks > self.max_blocks:
            self._shrink()
        if len(sets) > MAX_SETS:
            self._sets = {}
        fill = len(chunks) / mirror.capacity
        self.fill[endpoint_id] = fill if fill < 1.0 else 1.0

    def _note_sharing(self, hashes: Sequence[int]) -> None:
        """Mark the deepest known chunk of a prompt as one that more than one prompt has."""
        holders = self._holders
        low, high = -1, len(hashes)
        while high - low > 1:
            middle = (low + high) // 2
            if hashes[middle] in holders:
                low = middle
            else:
                high = middle
        if low >= 0:
            bits = holders[hashes[low]]
            if not bits & SHARED:
                bits |= SHARED
                holders[hashes[low]] = self._sets.setdefault(bits, bits)

    def set_capacity(self, endpoint_id: str, num_hashes: int) -> None:
        """How many chunks the worker's own cache holds; a tiny one counts as one chunk."""
        num_hashes = max(1, num_hashes)
        if self._capacities.get(endpoint_id) == num_hashes:
            return
        self._capacities[endpoint_id] = num_hashes
        mirror = self._mirrors.get(endpoint_id)
        if mirror is not None:
            mirror.capacity = min(num_hashes, self.max_blocks)
            excess = len(mirror.chunks) - mirror.capacity
            if excess > 0:
                self._evict(mirror, excess)
            self.fill[endpoint_id] = len(mirror.chunks) / mirror.capacity

    def forget(self, endpoint_id: str) -> None:
        """The endpoint is gone, or its cache is: at once for look-ups, in steps for memory."""
        self._capacities.pop(endpoint_id, None)
        self.fill.pop(endpoint_id, None)
        mirror = self._mirrors.pop(endpoint_id, None)
        if mirror is not None:
            self._endpoints.bury(mirror.bit)
            self._graveyard.append(mirror)

    def _add(self, endpoint_id: str) -> Mirror:
        free_place = self._free_places.pop() if self._free_places else None
        capacity = self._capacities.get(endpoint_id, DEFAULT_CAPACITY)
        bit = self._endpoints.add(endpoint_id, free_place)
        mirror = self._mirrors[endpoint_id] = Mirror(bit, min(capacity, self.max_blocks))
        return mirror

    def _evict(self, mirror: Mirror, count: int) -> None:
        """Take the oldest chunks out of a mirror."""
        chunks = mirror.chunks
        oldest = iter(chunks)
        gone = [next(oldest) for _ in range(count)]
        holders = self._holders
        keep = ~mirror.bit
        for chunk in gone:
            del chunks[chunk]
            bits = holders[chunk] & keep
            if bits & ENDPOINTS:
                holders[chunk] = self._sets.setdefault(bits, bits)
            else:
                del holders[chunk]
        self.num_blocks -= count

    def _shrink(self) -> None:
        """Back under `max_blocks`, with room to spare: the dead first, then the largest mirror."""
        while self._graveyard and self.num_blocks > self.max_blocks:
            self._purge()
        while self.num_blocks > self.max_blocks:
            largest_id, largest = max(self._mirrors.items(), key=lambda item: len(item[1].chunks))
            surplus = self.num_blocks - self.max_blocks + self.max_blocks // 64
            self._evict(largest, min(surplus, (len(largest.chunks) + 1) // 2))
            self.fill[largest_id] = len(largest.chunks) / largest.capacity

    def _purge(self) -> None:
        """Clear away a few chunks of what was forgotten; its bit is free when none are left."""
        mirror = self._graveyard[-1]
        self._evict(mirror, min(PURGE_BATCH, len(mirror.chunks)))
        if not mirror.chunks:
            self._graveyard.pop()
            self._free_places.append(mirror.bit.bit_length() - 1)
