"""The exact index against a naive one; expectations; bounds."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shoal.router.core.exact_index import EXPECTED_S, MAX_EXPECTED, PURGE_BATCH, ExactIndex


def num_held(index: ExactIndex, endpoint_id: str) -> int:
    holding = index._holdings.get(endpoint_id)
    return 0 if holding is None else len(holding.blocks)


NAMES = [f"e{number}" for number in range(4)]
BLOCKS = st.lists(st.integers(0, 11), max_size=6)


class AgainstNaive(RuleBasedStateMachine):
    """Any blocks in any order, gaps included; expectations that have not run out."""

    def __init__(self) -> None:
        super().__init__()
        self.index = ExactIndex()
        self.held: dict[str, set[int]] = {}
        self.expected: dict[str, set[int]] = {}

    @rule(name=st.sampled_from(NAMES), block_size=st.sampled_from([16, 16, 32]))
    def register(self, name: str, block_size: int) -> None:
        known = self.index.block_sizes.get(name)
        self.index.register(name, block_size)
        if known != block_size:
            self.held[name] = set()
            self.expected[name] = set()

    @rule(name=st.sampled_from(NAMES), blocks=BLOCKS)
    def store(self, name: str, blocks: list[int]) -> None:
        self.index.store(name, blocks)
        if name in self.held:
            self.held[name].update(blocks)

    @rule(name=st.sampled_from(NAMES), blocks=BLOCKS)
    def remove(self, name: str, blocks: list[int]) -> None:
        self.index.remove(name, blocks)
        if name in self.held:
            self.held[name].difference_update(blocks)

    @rule(name=st.sampled_from(NAMES), blocks=BLOCKS)
    def expect(self, name: str, blocks: list[int]) -> None:
        self.index.expect(name, blocks, 1.0)
        if name in self.held:
            self.expected[name].update(blocks)

    @rule(name=st.sampled_from(NAMES))
    def clear(self, name: str) -> None:
        self.index.clear(name)
        if name in self.held:
            self.held[name] = set()
            self.expected[name] = set()

    @rule(name=st.sampled_from(NAMES))
    def forget(self, name: str) -> None:
        self.index.forget(name)
        self.held.pop(name, None)
        self.expected.pop(name, None)

    @invariant()
    def agrees(self) -> None:
        assert set(self.index.block_sizes) == set(self.held)
        for prompt in (tuple(range(12)), (3, 4, 5, 6), (11, 0, 7), ()):
            expected = {}
            for name, held in self.held.items():
                there = held | self.expected[name]
                depth = 0
                while depth < len(prompt) and prompt[depth] in there:
                    depth += 1
                if depth:
                    expected[name] = depth
            assert self.index.matched(prompt, 1.0) == expected

    @invariant()
    def counts_agree(self) -> None:
        for name in NAMES:
            assert num_held(self.index, name) == len(self.held.get(name, ()))
        assert self.index.num_blocks >= sum(len(held) for held in self.held.values())


AgainstNaive.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestAgainstNaive = AgainstNaive.TestCase


def registered(*names: str, max_blocks: int = 1_000_000) -> ExactIndex:
    index = ExactIndex(max_blocks=max_blocks)
    for name in names:
        index.register(name, 16)
    return index


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        ExactIndex().register("a", 0)
    with pytest.raises(ValueError, match="1 or more"):
        ExactIndex(max_blocks=0)


def test_an_expectation_that_is_not_met_runs_out() -> None:
    index = registered("a", "b")
    index.expect("a", [1, 2], 10.0)
    index.store("a", [1])
    assert index.matched([1, 2], 10.0 + 0.9 * EXPECTED_S) == {"a": 2}
    index.expect("b", [1], 10.0 + 1.1 * EXPECTED_S)  # in the next turn: both count
    assert index.matched([1, 2], 10.0 + 1.5 * EXPECTED_S) == {"a": 2, "b": 1}
    assert index.matched([1, 2], 10.0 + 2.2 * EXPECTED_S) == {"a": 1, "b": 1}
    assert index.matched([1, 2], 10.0 + 5.0 * EXPECTED_S) == {"a": 1}


def test_after_a_long_silence_all_expectations_have_run_out() -> None:
    index = registered("a")
    index.expect("a", [1], 10.0)
    assert index.matched([1], 10.0 + 3 * EXPECTED_S) == {}


def test_expectations_are_bounded() -> None:
    index = registered("a")
    for start in range(0, 4 * MAX_EXPECTED, 1024):
        index.expect("a", range(start, start + 1024), 10.0)
        assert len(index._expected) + len(index._expected_before) <= MAX_EXPECTED + 2048
    assert index.matched([4 * MAX_EXPECTED - 1], 10.0) == {"a": 1}


def test_a_place_is_not_given_away_while_an_expectation_names_it() -> None:
    index = registered("a")
    index.expect("a", [1, 2, 3], 10.0)
    index.forget("a")
    index.register("b", 16)
    index.store("b", [9])  # clears away what is left of the first
    index.forget("b")
    index.register("c", 16)
    assert index.matched([1, 2, 3], 10.1) == {}
    for late in (20.0, 30.0):
        index.expect("c", [5], late)
    index.store("c", [7])
    index.register("d", 16)
    assert len(index._endpoints) == 3  # in the place of `a`
    assert index.matched([5], 30.0) == {"c": 1}


def test_clearing_takes_no_time_and_its_memory_goes_step_by_step() -> None:
    index = registered("a", "b")
    index.store("a", range(10 * PURGE_BATCH))
    index.clear("a")
    assert index.matched([0, 1], 0.0) == {}
    assert index.num_blocks == 10 * PURGE_BATCH
    for number in range(11):
        index.store("b", [number])
    assert index.num_blocks == 11
    assert index.matched([0, 1], 0.0) == {"b": 2}


def test_bounded_and_the_largest_gives_way() -> None:
    index = registered("small", "large", max_blocks=1000)
    index.store("small", [-1, -2])
    for number in range(3000):
        index.store("large", [number])
        assert index.num_blocks <= 1000
    assert index.matched([-1, -2], 0.0) == {"small": 2}
    index.clear("large")
    index.store("small", range(5000, 5900))  # the dead go first
    assert num_held(index, "small") == 902
    assert index.num_blocks <= 1000


def test_many_different_sets_take_no_memory_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal.router.core.exact_index.MAX_SETS", 10)
    index = registered(*(f"e{number}" for number in range(100)))
    for number in range(100):
        index.store(f"e{number}", [1, number])
        assert len(index._sets) <= 10 + 4
    assert len(index.matched([1], 0.0)) == 100
