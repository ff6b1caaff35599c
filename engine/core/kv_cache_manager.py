"""Block tables of requests over the pool: prefix hits, growth, windows, release.

Every KV cache group (layers that share a window) has its own block table per request, all of the
same length; a sliding-window group holds the null block where tokens have left its window.
Invariant: a block is published (findable) only when its KV is computed, or is computed by the
very step being scheduled; the runner writes all KV of a step before it reads any.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from .block_hash import hash_block, root_hash
from .block_pool import NULL_BLOCK, BlockKey, BlockPool
from .config import CacheConfig
from .host_tier import HostTier
from .kv_cache_events import BlocksStored, KVCacheEvent
from .output import BlockCopies
from .request import Request


@dataclass(frozen=True, slots=True)
class ComputedBlocks:
    """A prefix found in the cache: `block_ids` per group cover `num_tokens` tokens."""

    block_ids: list[list[int]]
    num_tokens: int
    on_host: Sequence[tuple[int, int]] = ()
    """(group, index) of blocks that are in the host tier: the null block stands in their places."""


class KVCacheManager:
    """Owns the block tables. Blocks of a request are freed by `free`, and by nothing else."""

    def __init__(self, config: CacheConfig, *, max_num_batched_tokens: int) -> None:
        self.block_size = config.block_size
        self.num_usable_blocks = config.num_blocks - 1
        self.pool = BlockPool(config.num_blocks)
        self._enable_prefix_caching = config.enable_prefix_caching
        self._windows = [group.sliding_window for group in config.groups]
        self._has_window = any(window is not None for window in self._windows)
        self._max_chunk = max_num_batched_tokens
        self.tier: HostTier | None = None
        if config.num_host_blocks:
            self.tier = HostTier(
                config.num_host_blocks, max_saves_per_step=config.max_saves_per_step
            )
            self.pool.evicted = []
        self._find = self.pool.find if self.tier is None else self._find_in_either

    @property
    def usage(self) -> float:
        """Share of the pool in use, in [0, 1]."""
        return self.pool.usage

    @property
    def host_usage(self) -> float:
        """Share of the host tier in use, in [0, 1]."""
        return 0.0 if self.tier is None else self.tier.usage

    def num_on_host(self, computed: ComputedBlocks) -> int | None:
        """Tokens of a prefix that come from the host tier, for one group or more; None: there is no
        tier."""
        if self.tier is None:
            return None
        return len({index for _, index in computed.on_host}) * self.block_size

    def peak_blocks(self, num_tokens: int) -> int:
        """Most blocks a request of `num_tokens` holds at once.

        A window of W tokens and a chunk of C hold at most ceil((W - 1 + C) / block_size) + 1
        blocks: W=4096, C=512, blocks of 16 -> 289, however long the request gets.
        """
        full = -(-num_tokens // self.block_size)
        total = 0
        for window in self._windows:
            if window is None:
                total += full
            else:
                total += min(full, -(-(window - 1 + self._max_chunk) // self.block_size) + 1)
        return total

    def num_held(self, request: Request) -> int:
        """Blocks the request holds now, shared ones included."""
        if not self._has_window:
            return sum(map(len, request.block_ids))
        return sum(len(table) - table.count(NULL_BLOCK) for table in request.block_ids)

    def get_computed_blocks(self, request: Request) -> ComputedBlocks:
        """The longest cached prefix of the request; changes nothing but its block hashes.

        At least one token is left to compute, and requests for prompt log-probabilities find
        nothing: they need the logits of every prompt position.
        """
        empty = ComputedBlocks([[] for _ in self._windows], 0)
        wants_prompt_logits = request.sampling_params.prompt_logprobs is not None
        if not self._enable_prefix_caching or wants_prompt_logits:
            return empty
        num_blocks = (request.num_tokens - 1) // self.block_size
        self._hash_blocks(request, num_blocks)
        num_blocks = self._longest_hit(request.block_hashes[:num_blocks])
        if num_blocks == 0:
            return empty
        find, hashes, tables = self.pool.find, request.block_hashes, []
        on_host: list[tuple[int, int]] = []
        for group in range(len(self._windows)):
            first = self._first_needed(group, num_blocks * self.block_size)
            table = [NULL_BLOCK] * first
            table += [find((group, hashes[i])) or NULL_BLOCK for i in range(first, num_blocks)]
            tables.append(table)
            if self.tier is not None:
                on_host += [(group, i) for i in range(first, num_blocks) if not table[i]]
        return ComputedBlocks(tables, num_blocks * self.block_size, on_host)

    def num_lacking_blocks(
        self, request: Request, computed: ComputedBlocks, *, reserve: int
    ) -> int:
        """Blocks too few to hold all known tokens of a waiting request and leave `reserve`.

        0 or less: it fits. Cached blocks that it would use are not free for its other tokens.
        """
        found = [block_id for table in computed.block_ids for block_id in table if block_id]
        num_new = max(self.peak_blocks(request.num_tokens) - len(found), 0)
        return num_new + reserve + self.pool.num_free_among(found) - self.pool.num_free

    def admit(self, request: Request, computed: ComputedBlocks) -> None:
        """Give a request its cached prefix as the start of its block tables."""
        for table in computed.block_ids:
            self.pool.touch(table)
        request.block_ids = [list(table) for table in computed.block_ids]
        request.num_computed_tokens = computed.num_tokens
        request.num_slots = computed.num_tokens
        request.num_published_blocks = computed.num_tokens // self.block_size
        if computed.on_host:
            self._load(request, computed.on_host)

    def _load(self, request: Request, places: Sequence[tuple[int, int]]) -> None:
        """Have blocks of a prefix copied from the host tier; others may share them in this step."""
        assert self.tier is not None
        new = self.pool.allocate(len(places))
        assert new is not None, "num_lacking_blocks said that they fit"
        targets, indices = [], [list[int]() for _ in self._windows]
        for (group, index), block_id in zip(places, new, strict=True):
            request.block_ids[group][index] = block_id
            targets.append(((group, request.block_hashes[index]), block_id))
            indices[group].append(index)
        self.tier.load(targets)
        for group, of_group in enumerate(indices):
            self._publish(request, group, of_group)

    def record_events(self) -> None:
        """From now on keep what becomes findable or is lost, for `take_events`."""
        self._share_events([])

    def take_events(self) -> list[KVCacheEvent]:
        """What happened since the last call, oldest first; whoever records must take."""
        events = self.pool.events
        if not events:
            return []
        self._share_events([])
        return events

    def _share_events(self, events: list[KVCacheEvent]) -> None:
        self.pool.events = events
        if self.tier is not None:
            self.tier.events = events

    def take_copies(self) -> BlockCopies | None:
        """What the step that was decided moves between the device and the host tier."""
        if self.tier is None or self.pool.evicted is None:
            return None
        evicted, self.pool.evicted = self.pool.evicted, []
        copies = self.tier.take_copies(evicted)
        return copies if copies.saves or copies.loads else None

    def end_copies(self, copies: BlockCopies) -> None:
        """The step that they belong to is over."""
        assert self.tier is not None
        self.tier.end_copies(copies)

    def allocate_slots(
        self, request: Request, num_new_tokens: int, *, num_in_flight: int = 0
    ) -> list[list[int]] | None:
        """Make room for the next tokens: the new block ids per group, or None when full.

        They come after the computed tokens and those that a step in flight computes: what that
        step reads, behind a window, stays. On None nothing was allocated (blocks behind a window
        may have been freed).
        """
        if self._has_window:
            self._free_behind_windows(request)
        num_tokens = request.num_computed_tokens + num_in_flight + num_new_tokens
        num_new_blocks = max(-(-(num_tokens - request.num_slots) // self.block_size), 0)
        num_groups = len(self._windows)
        new = self.pool.allocate(num_new_blocks * num_groups)
        if new is None:
            return None
        tables = [new[i * num_new_blocks :][:num_new_blocks] for i in range(num_groups)]
        for table, new_ids in zip(request.block_ids, tables, strict=True):
            table += new_ids
        request.num_slots += num_new_blocks * self.block_size
        return tables

    def allocate_next_blocks(self, requests: list[Request]) -> dict[str, list[list[int]]] | None:
        """`allocate_slots` for decodes whose last block is full, all at once: one block each.

        None, and no change, when there are not enough, or when windows must be looked at first.
        """
        return None if self._has_window else self._allocate_one_each(requests)

    def allocate_ahead(self, requests: list[Request]) -> dict[str, list[list[int]]] | None:
        """The same while a step is in flight, and behind windows too: what is no longer read by
        that step is freed. None, and nothing allocated, when there are not enough."""
        if self._has_window:
            for request in requests:
                self._free_behind_windows(request)
        return self._allocate_one_each(requests)

    def _allocate_one_each(self, requests: list[Request]) -> dict[str, list[list[int]]] | None:
        new = self.pool.allocate(len(requests) * len(self._windows))
        if new is None:
            return None
        new_block_ids = {}
        of_requests = iter(new)
        for request in requests:
            tables = []
            for table in request.block_ids:
                block_id = next(of_requests)
                table.append(block_id)
                tables.append([block_id])
            request.num_slots += self.block_size
            new_block_ids[request.request_id] = tables
        return new_block_ids

    def publish(self, request: Request, num_tokens: int) -> None:
        """Make the full blocks of the first `num_tokens` tokens findable by other requests.

        Called for prefills as they are scheduled, and for outputs once, when the request stops
        running: hashing them as they grow would cost every decode step for a prefix that nobody
        can ask for before the answer is complete.
        """
        num_blocks = num_tokens // self.block_size
        first = request.num_published_blocks
        if not self._enable_prefix_caching or num_blocks <= first:
            return
        self._hash_blocks(request, num_blocks)
        for group in range(len(self._windows)):
            self._publish(request, group, range(first, num_blocks))
        request.num_published_blocks = num_blocks

    def _publish(self, request: Request, group: int, indices: Iterable[int]) -> None:
        table, hashes, publish = request.block_ids[group], request.block_hashes, self.pool.publish
        stored = [
            index
            for index in indices
            if table[index] != NULL_BLOCK and publish(table[index], (group, hashes[index]))
        ]
        if stored and self.pool.events is not None:
            self.pool.events += self._stored_events(request, group, stored)

    def _stored_events(
        self, request: Request, group: int, indices: list[int]
    ) -> Iterator[BlocksStored]:
        """One event for each run of neighbouring blocks."""
        hashes, size = request.block_hashes, self.block_size
        for _, run in groupby(enumerate(indices), lambda place: place[1] - place[0]):
            blocks = [index for _, index in run]
            first, last = blocks[0], blocks[-1]
            yield BlocksStored(
                block_hashes=hashes[first : last + 1],
                parent_block_hash=hashes[first - 1] if first else None,
                token_ids=request.token_ids[first * size : (last + 1) * size],
                group=group,
            )

    def free(self, request: Request) -> None:
        """Release every block; full computed ones stay findable until they are evicted."""
        self.publish(request, request.num_computed_tokens)
        for table in request.block_ids:
            # The tail goes first: a prefix without its tail is useful, a tail alone is not.
            self.pool.free(reversed(table))
        request.block_ids = []
        request.num_slots = request.num_computed_tokens = request.num_published_blocks = 0

    def check_integrity(self, requests: Iterable[Request]) -> None:
        """Raise AssertionError unless tables, reference counts and progress agree."""
        held: Counter[int] = Counter()
        for request in requests:
            assert request.num_computed_tokens <= max(request.num_slots, 0), request
            for table in request.block_ids:
                assert len(table) * self.block_size == request.num_slots, request
                held.update(block_id for block_id in table if block_id != NULL_BLOCK)
        self.pool.check_integrity(held)
        if self.tier is not None:
            self.tier.check_integrity()

    def _find_in_either(self, key: BlockKey) -> int | None:
        """Not None where a block is on the device or in the host tier."""
        found = self.pool.find(key)
        if found is None and self.tier is not None and key in self.tier:
            return NULL_BLOCK
        return found

    def _first_needed(self, group: int, position: int) -> int:
        """Index of the first block that a query at `position` still reads."""
        window = self._windows[group]
        return 0 if window is None else max(position - window + 1, 0) // self.block_size

    def _longest_hit(self, hashes: list[bytes]) -> int:
        """Most leading blocks such that every group has all it needs to continue after them.

        A miss at block i of a full-attention group ends the prefix at i. In a window group a
        miss matters only inside the window, so the candidate shrinks until its window is whole.
        Shrinking one group can break another, so the pass repeats until nothing changes.
        """
        find, num_blocks, settled = self._find, len(hashes), False
        while num_blocks and not settled:
            settled = True
            for group, window in enumerate(self._windows):
                if window is None:
                    missing = (i for i in range(num_blocks) if find((group, hashes[i])) is None)
                    num_hit = next(missing, num_blocks)
                else:
                    num_hit = self._longest_window_hit(group, hashes[:num_blocks])
                settled = settled and num_hit == num_blocks
                num_blocks = num_hit
        return num_blocks

    def _longest_window_hit(self, group: int, hashes: list[bytes]) -> int:
        num_blocks = index = len(hashes)
        while index > self._first_needed(group, num_blocks * self.block_size):
            index -= 1
            if self._find((group, hashes[index])) is None:
                num_blocks = index
        return num_blocks

    def _hash_blocks(self, request: Request, num_blocks: int) -> None:
        hashes, token_ids, size = request.block_hashes, request.token_ids, self.block_size
        if not hashes and num_blocks:
            parent = root_hash(adapter=request.adapter, cache_salt=request.cache_salt)
        else:
            parent = hashes[-1] if hashes else b""
        for index in range(len(hashes), num_blocks):
            parent = hash_block(parent, token_ids[index * size : (index + 1) * size])
            hashes.append(parent)

    def _free_behind_windows(self, request: Request) -> None:
        for group, table in enumerate(request.block_ids):
            index = self._first_needed(group, request.num_computed_tokens) - 1
            while index >= 0 and table[index] != NULL_BLOCK:
                self.pool.free((table[index],))
                table[index] = NULL_BLOCK
                index -= 1
