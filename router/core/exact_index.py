"""Which endpoint has which block: from the KV events of the workers themselves.

Exact mode. One inverted map gives for each block hash the set of endpoints that hold it, as the
bits of an int; each endpoint's own set of hashes makes `clear` and `forget` cheap. Events are late
by some milliseconds, so a block that was just routed to an endpoint counts as there for
`EXPECTED_S` before its event must have come: a burst of one new prompt goes to one worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from .endpoint_sets import EndpointSets

EXPECTED_S: Final = 2.0
"""An expected block counts for at least so long, and at most twice as long."""
MAX_EXPECTED: Final = 131_072
"""Blocks expected at once; more and the older half is forgotten early."""
MAX_SETS = 65_536
"""Different sets of endpoints that are shared between blocks; then sharing starts over."""
PURGE_BATCH: Final = 256
"""Blocks of cleared endpoints that one later call takes away."""


class Holding:
    """What one endpoint holds."""

    __slots__ = ("bit", "block_size", "blocks")

    def __init__(self, bit: int, block_size: int) -> None:
        self.bit = bit
        self.block_size = block_size
        self.blocks: set[int] = set()


class ExactIndex:
    """Block hashes -> endpoints, as the workers tell; at most `max_blocks` over all endpoints.

    Look-ups are linear in the blocks of the prompt that somebody has: events do not promise that
    the blocks of a prefix go in order, so every one is checked.
    """

    def __init__(self, *, max_blocks: int = 1_000_000) -> None:
        if max_blocks < 1:
            raise ValueError(f"max_blocks must be 1 or more, got {max_blocks}")
        self.max_blocks = max_blocks
        self.num_blocks = 0
        """Blocks of all endpoints together, cleared ones that still wait to go included."""
        self.block_sizes: dict[str, int] = {}
        """Tokens of a block by endpoint: exactly those that are indexed. Not to be changed."""
        self._holders: dict[int, int] = {}
        self._sets: dict[int, int] = {}
        self._holdings: dict[str, Holding] = {}
        self._endpoints = EndpointSets()
        self._free_places: list[tuple[int, int]] = []
        """(turn after which no expectation carries it any more, place of the bit)"""
        self._graveyard: list[Holding] = []
        self._expected: dict[int, int] = {}
        self._expected_before: dict[int, int] = {}
        self._turn_at = 0.0
        self._turns = 0

    def register(self, endpoint_id: str, block_size: int) -> None:
        """Events of this endpoint are indexed from now on. Raises ValueError below 1 token."""
        if block_size < 1:
            raise ValueError(f"a block has at least one token, got {block_size}")
        holding = self._holdings.get(endpoint_id)
        if holding is not None and holding.block_size != block_size:
            self.forget(endpoint_id)
            holding = None
        if holding is None:
            self._add(endpoint_id, block_size)

    def store(self, endpoint_id: str, hashes: Iterable[int]) -> None:
        """The endpoint has these blocks. No effect on one that is not registered."""
        holding = self._holdings.get(endpoint_id)
        if holding is None:
            return
        if self._graveyard:
            self._purge()
        blocks = holding.blocks
        holders = self._holders
        sets = self._sets
        bit = holding.bit
        before = len(blocks)
        for block in hashes:
            if block not in blocks:
                blocks.add(block)
                bits = holders.get(block, 0) | bit
                holders[block] = sets.setdefault(bits, bits)
        self.num_blocks += len(blocks) - before
        if self.num_blocks > self.max_blocks:
            self._shrink()
        if len(sets) > MAX_SETS:
            self._sets = {}

    def remove(self, endpoint_id: str, hashes: Iterable[int]) -> None:
        """The endpoint has evicted these blocks; those it does not have are ignored."""
        holding = self._holdings.get(endpoint_id)
        if holding is None:
            return
        blocks = holding.blocks
        for block in hashes:
            if block in blocks:
                blocks.remove(block)
                self._release(holding.bit, block)

    def clear(self, endpoint_id: str) -> None:
        """The endpoint's cache is empty, and what was expected there will not be: O(1)."""
        holding = self._holdings.get(endpoint_id)
        if holding is not None:
            self._bury(holding)
            self._add(endpoint_id, holding.block_size)

    def forget(self, endpoint_id: str) -> None:
        """The endpoint is gone, or is no longer indexed: O(1)."""
        self.block_sizes.pop(endpoint_id, None)
        holding = self._holdings.pop(endpoint_id, None)
        if holding is not None:
            self._bury(holding)

    def expect(self, endpoint_id: str, hashes: Iterable[int], now: float) -> None:
        """A prompt was sent to the endpoint; its events come soon. Ignored if not registered."""
        holding = self._holdings.get(endpoint_id)
        if holding is None:
            return
        if now >= self._turn_at or len(self._expected) > MAX_EXPECTED // 2:
            self._turn(now)
        expected = self._expected
        bit = holding.bit
        for block in hashes:
            expected[block] = expected.get(block, 0) | bit

    def matched(self, hashes: Sequence[int], now: float) -> dict[str, int]:
        """How many leading blocks each endpoint has without a gap; those with none are left out."""
        if now >= self._turn_at and (self._expected or self._expected_before):
            self._turn(now)
        levels = []
        new, old = self._expected, self._expected_before
        is_certain = not new and not old
        holders = self._endpoints.alive
        previous: int | None = 0
        depth = 0
        for bits, block in zip(map(self._holders.get, hashes), hashes, strict=True):
            if bits is not previous or not is_certain:
                here = bits or 0
                if not is_certain:
                    here |= new.get(block, 0) | old.get(block, 0)
                remaining = here & holders
                if remaining != holders:
                    if depth:
                        levels.append((depth, holders))
                    holders = remaining
                    if not holders:
                        break
                previous = bits
            depth += 1
        if depth and holders:
            levels.append((depth, holders))
        return self._endpoints.depths(levels)

    def _add(self, endpoint_id: str, block_size: int) -> None:
        free_place = None
        if self._free_places and self._free_places[0][0] <= self._turns:
            free_place = self._free_places.pop(0)[1]
        bit = self._endpoints.add(endpoint_id, free_place)
        self._holdings[endpoint_id] = Holding(bit, block_size)
        self.block_sizes[endpoint_id] = block_size

    def _bury(self, holding: Holding) -> None:
        self._endpoints.bury(holding.bit)
        self._graveyard.append(holding)

    def _release(self, bit: int, block: int) -> None:
        bits = self._holders[block] & ~bit
        if bits:
            self._holders[block] = self._sets.setdefault(bits, bits)
        else:
            del self._holders[block]
        self.num_blocks -= 1

    def _turn(self, now: float) -> None:
        """What was expected a turn ago has come by now, or will not."""
        late = now >= self._turn_at + EXPECTED_S
        self._expected_before = {} if late else self._expected
        self._expected = {}
        self._turn_at = now + EXPECTED_S
        self._turns += 1

    def _shrink(self) -> None:
        """Back under `max_blocks`, with room to spare: the dead first, then the largest holding."""
        while self._graveyard and self.num_blocks > self.max_blocks:
            self._purge()
        while self.num_blocks > self.max_blocks:
            largest = max(self._holdings.values(), key=lambda holding: len(holding.blocks))
            surplus = self.num_blocks - self.max_blocks + self.max_blocks // 64
            self._drop(largest, min(surplus, (len(largest.blocks) + 1) // 2))

    def _purge(self) -> None:
        """Take away a few blocks of what was cleared; its bit is free when none are left."""
        holding = self._graveyard[-1]
        self._drop(holding, min(PURGE_BATCH, len(holding.blocks)))
        if not holding.blocks:
            self._graveyard.pop()
            # An expectation may still carry the bit, for this turn and the next.
            self._free_places.append((self._turns + 2, holding.bit.bit_length() - 1))

    def _drop(self, holding: Holding, count: int) -> None:
        for _ in range(count):
            self._release(holding.bit, holding.blocks.pop())
