from __future__ import annotations

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shoal.engine.core.block_pool import BlockKey, EvictedBlock
from shoal.engine.core.host_tier import HostTier
from shoal.engine.core.kv_cache_events import HostBlockRemoved, HostBlocksStored
from shoal.engine.core.output import BlockCopies


def key(number: int) -> BlockKey:
    return 0, bytes([number])


def evicted(*numbers: int, was_hit: bool = False) -> list[EvictedBlock]:
    """Device block 100 + n held content n."""
    return [EvictedBlock(100 + number, key(number), was_hit) for number in numbers]


def save(tier: HostTier, *numbers: int, was_hit: bool = False) -> list[int]:
    """Evict these from the device, in a step of their own; which of them were copied."""
    copies = tier.take_copies(evicted(*numbers, was_hit=was_hit))
    tier.end_copies(copies)
    tier.check_integrity()
    return [block_id - 100 for block_id, _ in copies.saves]


def held(tier: HostTier) -> list[int]:
    return [number for number in range(100) if key(number) in tier]


def make_tier(num_blocks: int = 4, *, max_saves_per_step: int = 100) -> HostTier:
    return HostTier(num_blocks, max_saves_per_step=max_saves_per_step)


def test_what_is_evicted_is_copied_once_and_loaded_from_where_it_is() -> None:
    tier = make_tier()
    copies = tier.take_copies(evicted(1, 2))
    tier.load([(key(1), 50)])  # before the copy has ended: copies run in the order of their steps
    later = tier.take_copies(evicted(1))
    (first, host_1), (second, host_2) = copies.saves
    assert (first, second) == (101, 102)
    assert host_1 != host_2
    assert later == BlockCopies(saves=[], loads=[(host_1, 50)])


def test_on_probation_the_least_recently_used_goes() -> None:
    tier = make_tier()
    save(tier, 1, 2, 3, 4)
    save(tier, 2)  # again on the device, and again evicted
    save(tier, 5, 6)
    assert held(tier) == [2, 4, 5, 6]


def test_a_flood_leaves_what_was_found_again() -> None:
    tier = make_tier(8)
    save(tier, 1, 2, was_hit=True)  # found on the device
    save(tier, 3)
    tier.load([(key(3), 50)])  # found here
    tier.end_copies(tier.take_copies([]))
    for flood in range(10, 60, 4):
        save(tier, *range(flood, flood + 4))
    assert held(tier)[:3] == [1, 2, 3]


def test_the_protected_are_at_most_three_quarters() -> None:
    tier = make_tier(8)
    save(tier, *range(8), was_hit=True)
    save(tier, 20, 21)
    assert held(tier) == [2, 3, 4, 5, 6, 7, 20, 21]


def test_if_not_all_can_be_saved_the_heads_of_prefixes_are() -> None:
    """A prefix is evicted tail first, and its tail is useless without its head."""
    assert save(make_tier(max_saves_per_step=2), 9, 8, 7, 6) == [7, 6]
    assert save(make_tier(3), 9, 8, 7, 6) == [8, 7, 6]


def test_of_a_prefix_that_was_found_the_tail_goes_first() -> None:
    tier = make_tier(4)
    save(tier, 3, 2, 1)
    tier.load([(key(1), 50), (key(2), 51), (key(3), 52)])
    tier.end_copies(tier.take_copies([]))
    save(tier, 9, was_hit=True)  # a fourth, of which three may be protected
    save(tier, 10)
    assert held(tier) == [1, 2, 9, 10]


def test_copies_in_flight_stay() -> None:
    tier = make_tier(4)
    save(tier, 1, 2, 3, 4)
    tier.load([(key(1), 50), (key(2), 51)])
    loading = tier.take_copies([])
    copies = tier.take_copies(evicted(5, 6, 7))
    assert [block_id for block_id, _ in copies.saves] == [106, 107]
    assert tier.take_copies(evicted(8)).saves == []  # all four are read or written
    assert held(tier) == [1, 2, 6, 7]
    tier.end_copies(loading)
    assert len(tier.take_copies(evicted(8, 9)).saves) == 2
    tier.check_integrity()


def test_usage_and_events() -> None:
    tier = make_tier(2)
    tier.events = []
    assert tier.usage == 0.0
    save(tier, 1)
    assert tier.usage == 0.5
    save(tier, 2, 3)
    assert tier.events == [
        HostBlocksStored(block_hashes=[b"\x01"], group=0),
        HostBlockRemoved(block_hash=b"\x01", group=0),
        HostBlocksStored(block_hashes=[b"\x02", b"\x03"], group=0),
    ]


@pytest.mark.parametrize("num_blocks", [1, 2])
def test_the_smallest_tiers(num_blocks: int) -> None:
    tier = make_tier(num_blocks)
    for number in range(5):
        save(tier, number, was_hit=True)
    assert len(held(tier)) == num_blocks


class HostTierMachine(RuleBasedStateMachine):
    """Against a memory that is really copied: what a load finds is what its key stands for."""

    @initialize(num_blocks=st.integers(1, 8), max_saves=st.sampled_from([1, 2, 100]))
    def start(self, num_blocks: int, max_saves: int) -> None:
        self.tier = make_tier(num_blocks, max_saves_per_step=max_saves)
        self.max_saves = max_saves
        self.host: dict[int, int] = {}
        self.evicted: list[EvictedBlock] = []
        self.wanted: list[tuple[int, int]] = []
        self.in_flight: deque[BlockCopies] = deque()

    @rule(numbers=st.lists(st.integers(0, 15), unique=True, max_size=6), was_hit=st.booleans())
    def evict(self, numbers: list[int], was_hit: bool) -> None:
        known = {block.key for block in self.evicted}
        self.evicted += [b for b in evicted(*numbers, was_hit=was_hit) if b.key not in known]

    @rule(numbers=st.lists(st.integers(0, 15), unique=True, max_size=3))
    def load(self, numbers: list[int]) -> None:
        found = [number for number in numbers if key(number) in self.tier]
        self.wanted += [(number, 200 + len(self.wanted) + i) for i, number in enumerate(found)]
        self.tier.load(
            [(key(number), b) for number, b in self.wanted[len(self.wanted) - len(found) :]]
        )

    @rule()
    def step(self) -> None:
        if len(self.in_flight) == 2:
            self.end()
        copies = self.tier.take_copies(self.evicted)
        busy = {h for step in self.in_flight for _, h in step.saves}
        busy |= {h for step in self.in_flight for h, _ in step.loads}
        assert len(copies.saves) <= self.max_saves
        for block_id, host_id in copies.saves:
            assert host_id not in busy
            self.host[host_id] = block_id - 100
        assert {(self.host[host_id], block_id) for host_id, block_id in copies.loads} == set(
            self.wanted
        )
        self.evicted, self.wanted = [], []
        self.in_flight.append(copies)

    @rule()
    def end(self) -> None:
        if self.in_flight:
            self.tier.end_copies(self.in_flight.popleft())

    @invariant()
    def books_balance(self) -> None:
        if hasattr(self, "tier"):
            self.tier.check_integrity()


HostTierMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None
)
TestHostTier = HostTierMachine.TestCase
