"""The approximate index against a naive one, and its bounds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shoal.router.core.prefix_index import DEFAULT_CAPACITY, LINEAR, PURGE_BATCH, PrefixIndex

NAMES = [f"e{number}" for number in range(5)]


def chain(*words: int, length: int = 1) -> tuple[int, ...]:
    """Chained hashes of a prompt of words, each as many chunks as told."""
    hashes = []
    parent = 0
    for word in words:
        for part in range(length):
            parent = hash((parent, word, part))
            hashes.append(parent)
    return tuple(hashes)


def naive_depth(cache: list[int], hashes: tuple[int, ...]) -> int:
    depth = 0
    while depth < len(hashes) and hashes[depth] in cache:
        depth += 1
    return depth


class AgainstNaive(RuleBasedStateMachine):
    """Mirrors of fewer than 16 chunks evict one by one, as a plain list does."""

    def __init__(self) -> None:
        super().__init__()
        self.index = PrefixIndex()
        self.caches: dict[str, list[int]] = {}
        self.capacities: dict[str, int] = {}
        self.prompts: set[tuple[int, ...]] = {(), chain(99)}

    @rule(
        name=st.sampled_from(NAMES),
        words=st.lists(st.integers(0, 2), max_size=5),
        length=st.sampled_from([1, 1, 1, 20]),
    )
    def record(self, name: str, words: list[int], length: int) -> None:
        hashes = chain(*words, length=length)
        self.prompts.add(hashes)
        self.index.record(name, hashes)
        cache = self.caches.setdefault(name, []) if hashes else self.caches.get(name, [])
        capacity = self.capacities.get(name, DEFAULT_CAPACITY)
        for block in reversed(hashes[:capacity]):
            if block in cache:
                cache.remove(block)
            cache.append(block)
        del cache[: max(0, len(cache) - capacity)]

    @rule(name=st.sampled_from(NAMES), capacity=st.integers(1, 15))
    def set_capacity(self, name: str, capacity: int) -> None:
        self.index.set_capacity(name, capacity)
        self.capacities[name] = capacity
        cache = self.caches.get(name, [])
        del cache[: max(0, len(cache) - capacity)]

    @rule(name=st.sampled_from(NAMES))
    def forget(self, name: str) -> None:
        self.index.forget(name)
        self.caches.pop(name, None)
        self.capacities.pop(name, None)

    @invariant()
    def agrees(self) -> None:
        for hashes in self.prompts:
            expected = {
                name: depth
                for name, cache in self.caches.items()
                if (depth := naive_depth(cache, hashes))
            }
            assert self.index.matched(hashes) == expected
            if hashes:
                levels, _ = self.index._bisect(hashes)
                assert self.index._endpoints.depths(levels) == expected

    @invariant()
    def fill_is_true(self) -> None:
        for name, cache in self.caches.items():
            capacity = self.capacities.get(name, DEFAULT_CAPACITY)
            assert self.index.fill[name] == pytest.approx(len(cache) / capacity)


AgainstNaive.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestAgainstNaive = AgainstNaive.TestCase


@given(depths=st.lists(st.integers(0, 3 * LINEAR), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_long_prompts_are_bisected(depths: list[int]) -> None:
    hashes = chain(*range(3 * LINEAR))
    index = PrefixIndex()
    for name, depth in zip(NAMES, depths, strict=False):
        index.record(name, hashes[:depth])
    expected = {name: depth for name, depth in zip(NAMES, depths, strict=False) if depth}
    assert index.matched(hashes) == expected
    walked = index.matched(hashes[:LINEAR])
    assert walked == {name: min(depth, LINEAR) for name, depth in expected.items()}


@pytest.mark.parametrize("length", [1, LINEAR])
def test_whose_the_deepest_match_is(length: int) -> None:
    """A conversation's own until something else goes on from there, or ends there too."""
    index = PrefixIndex()

    def is_own(*words: int) -> bool:
        return index.look_up(chain(*words, length=length))[1]

    assert not is_own(1)  # nobody has anything
    index.record("a", chain(1, 2, length=length))
    assert is_own(1, 2, 3)  # its next turn
    assert not is_own(1, 7)  # another conversation with the same system prompt
    index.record("a", chain(1, 2, 3, length=length))
    assert is_own(1, 2, 3, 4)
    assert not is_own(1, 2, 4)  # two ways to go on
    index.record("b", chain(1, 2, 3, length=length))  # the same prompt again
    assert not is_own(1, 2, 3, 4)


def test_a_mirror_is_as_large_as_the_cache_give_or_take_a_sixteenth() -> None:
    index = PrefixIndex()
    index.set_capacity("a", 1600)
    for number in range(5000):
        index.record("a", chain(number))
        assert index.num_blocks <= 1700
        assert index.fill["a"] <= 1.0
    assert index.num_blocks >= 1600
    assert index.matched(chain(4999)) == {"a": 1}
    assert index.matched(chain(0)) == {}
    index.set_capacity("a", 160)
    assert index.num_blocks == 160
    index.set_capacity("a", 0)  # nonsense from a worker
    assert index.num_blocks == 1


def test_a_prompt_longer_than_the_cache_keeps_its_beginning() -> None:
    index = PrefixIndex()
    index.set_capacity("a", 10)
    index.record("a", chain(*range(30)))
    assert index.matched(chain(*range(30))) == {"a": 10}


def test_the_whole_index_is_bounded_and_the_largest_gives_way() -> None:
    index = PrefixIndex(max_blocks=1000)
    index.record("small", chain(1, 2, 3))
    for number in range(3000):
        index.record("large", chain(-number))
        assert index.num_blocks <= 1000
    assert index.matched(chain(1, 2, 3)) == {"small": 3}
    assert len(index._holders) <= 1000
    with pytest.raises(ValueError, match="1 or more"):
        PrefixIndex(max_blocks=0)


def test_what_is_forgotten_goes_step_by_step() -> None:
    index = PrefixIndex()
    index.record("a", chain(*range(10 * PURGE_BATCH)))
    index.record("b", chain(0, 1))
    index.forget("a")
    assert index.matched(chain(0, 1, 2)) == {"b": 2}
    assert index.num_blocks > 10 * PURGE_BATCH
    for _ in range(11):
        index.record("b", chain(0, 1))
    assert index.num_blocks == len(index._holders) == 2
    index.record("c", chain(0))  # in the place of the one that is gone
    assert index.matched(chain(0, 1, 2)) == {"b": 2, "c": 1}
    assert len(index._endpoints) == 2


def test_what_is_forgotten_goes_first_when_room_is_needed() -> None:
    index = PrefixIndex(max_blocks=1000)
    index.record("gone", chain(*range(900)))
    index.forget("gone")
    index.record("here", chain(*range(1000, 1800)))
    assert index.num_blocks <= 1000
    assert index.matched(chain(*range(1000, 1800))) == {"here": 800}


def test_many_different_sets_of_holders_take_no_memory_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shoal.router.core.prefix_index.MAX_SETS", 10)
    index = PrefixIndex()
    for number in range(100):
        index.record(f"e{number}", chain(1, number))
        assert len(index._sets) <= 10 + 4
    assert len(index.matched(chain(1))) == 100
