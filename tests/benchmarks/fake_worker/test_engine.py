"""The engine in virtual time: what is due when, who waits, what is freed."""

from __future__ import annotations

import random
from typing import Any

import pytest

from shoal.benchmarks.fake_worker.cost_model import CostModel
from shoal.benchmarks.fake_worker.engine import FakeEngine, FakeEngineConfig, Sequence


def make_engine(*, ttft: float = 1.0, itl: float = 0.1, **fields: Any) -> FakeEngine:
    cost = {"itl_per_seq_s": fields.pop("per_seq", 0.0),
            "prefill_tokens_per_s": fields.pop("prefill", None)}  # fmt: skip
    model = CostModel(ttft_s=ttft, itl_s=itl, **cost)
    return FakeEngine(FakeEngineConfig(cost=model, **fields))


def add(engine: FakeEngine, prompt: list[int], max_tokens: int, now: float = 0.0) -> Sequence:
    sequence = engine.add("r", prompt, max_tokens=max_tokens, now=now)
    assert sequence is not None
    return sequence


def times_of(engine: FakeEngine, sequence: Sequence) -> list[float]:
    """When each token of a sequence comes, if every moment is met exactly."""
    times = []
    while not sequence.finished:
        due = engine.next_due
        assert due is not None
        before = len(sequence.pending)
        engine.emit(due)
        times += [due] * (len(sequence.pending) - before)
    return times


def run_to_end(engine: FakeEngine) -> None:
    while (due := engine.next_due) is not None:
        engine.emit(due)
        engine.manager.check_integrity(s.request for s in engine.running)


def test_the_first_token_and_those_after_it() -> None:
    engine = make_engine()
    assert times_of(engine, add(engine, [1, 2, 3], 4, now=5.0)) == pytest.approx(
        [6.0, 6.1, 6.2, 6.3]
    )


def test_a_late_timer_makes_no_stream_slower() -> None:
    engine = make_engine()
    sequence = add(engine, [1], 5)
    engine.emit(1.25)  # 1.0, 1.1 and 1.2 were due
    assert len(sequence.pending) == 3
    assert engine.next_due == pytest.approx(1.3)


def test_nothing_comes_early() -> None:
    engine = make_engine()
    sequence = add(engine, [1], 5)
    assert engine.emit(0.999) == []
    assert sequence.pending == []


def test_a_batch_is_slower_for_everybody() -> None:
    engine = make_engine(per_seq=0.05)
    first = add(engine, [1], 3)
    add(engine, [2], 3)
    assert times_of(engine, first) == pytest.approx([1.0, 1.2, 1.4])


def test_prompts_queue_for_the_prefill() -> None:
    engine = make_engine(prefill=100.0, max_num_seqs=8)
    sequences = [add(engine, [i] * 50, 1) for i in range(3)]
    assert [sequence.due for sequence in sequences] == pytest.approx([1.5, 2.0, 2.5])


def test_what_is_cached_costs_no_prefill() -> None:
    engine = make_engine(prefill=100.0, block_size=10)
    prompt = list(range(100))
    add(engine, prompt, 1)
    run_to_end(engine)
    again = add(engine, prompt, 1, now=10.0)
    assert again.request.num_cached_tokens == 90  # at least one token is computed
    assert again.due == pytest.approx(10.0 + 0.1 + 1.0)
    stats = engine.stats()
    assert (stats.prefix_cache_queries, stats.prefix_cache_hits) == (200, 90)


def test_an_answer_is_cached_too() -> None:
    engine = make_engine(block_size=4)
    first = add(engine, [1, 2, 3, 4], 9)
    run_to_end(engine)
    again = add(engine, [1, 2, 3, 4, *first.pending], 1, now=10.0)
    assert again.request.num_cached_tokens == 12


def test_seats_are_bounded_and_first_come_is_first_served() -> None:
    engine = make_engine(max_num_seqs=2)
    sequences = [add(engine, [i], 2) for i in range(4)]
    assert list(engine.running) == sequences[:2]
    assert list(engine.waiting) == sequences[2:]
    engine.emit(1.1)
    assert list(engine.running) == sequences[2:]
    assert sequences[2].request.first_scheduled_time == 1.1


def test_a_full_queue_refuses() -> None:
    engine = make_engine(max_num_seqs=1, max_num_waiting=2)
    for i in range(3):
        add(engine, [i], 1)
    assert engine.add("r", [9], max_tokens=1, now=0.0) is None


def test_old_content_is_evicted() -> None:
    engine = make_engine(block_size=4, num_blocks=6)  # 5 usable: three prompts of 8 need 6
    for base in (0, 100, 200, 300):
        add(engine, [base + i for i in range(8)], 1)
        run_to_end(engine)
    assert add(engine, list(range(8)), 1).request.num_cached_tokens == 0


def test_without_blocks_the_latest_gives_way_and_says_the_same_later() -> None:
    def answer(num_blocks: int) -> tuple[list[list[int]], int]:
        engine = make_engine(block_size=4, num_blocks=num_blocks)
        sequences = [add(engine, [base, base], 20) for base in (10, 20, 30)]
        run_to_end(engine)
        return [s.pending for s in sequences], engine.stats().num_preemptions

    roomy, none = answer(100)
    tight, some = answer(9)
    assert none == 0
    assert some > 0
    assert tight == roomy
    assert [len(words) for words in tight] == [20, 20, 20]


@pytest.mark.parametrize("cut", [0, 1, 5, 9])
def test_an_answer_continues_elsewhere(cut: int) -> None:
    here, there = make_engine(), make_engine()
    whole = add(here, [4, 5, 6], 10)
    run_to_end(here)
    rest = add(there, [4, 5, 6, *whole.pending[:cut]], 10 - cut)
    run_to_end(there)
    assert whole.pending[cut:] == rest.pending


def test_the_seed_changes_the_words() -> None:
    said = []
    for seed in (1, 1, 2):
        engine = make_engine(seed=seed)
        said.append(add(engine, [1], 8))
        run_to_end(engine)
    assert said[0].pending == said[1].pending != said[2].pending


def test_whoever_leaves_makes_room() -> None:
    engine = make_engine(max_num_seqs=1)
    first, second, third = (add(engine, [i], 5) for i in range(3))
    engine.abort(second, 0.5)  # while it waits
    engine.abort(first, 0.5)  # while it runs
    assert list(engine.running) == [third]
    engine.abort(first, 0.6)  # again: nothing happens
    run_to_end(engine)
    assert engine.manager.usage == 0.0


@pytest.mark.parametrize("seed", range(8))
def test_nothing_leaks_whatever_happens(seed: int) -> None:
    rng = random.Random(seed)
    engine = make_engine(
        block_size=4, num_blocks=40, max_num_seqs=5, max_num_waiting=8, prefill=500.0
    )
    now, live = 0.0, []
    for _ in range(300):
        now += rng.random() * 0.3
        action = rng.random()
        if action < 0.4:
            prompt = [rng.randrange(3) for _ in range(rng.randint(1, 30))]
            sequence = engine.add("r", prompt, max_tokens=rng.randint(1, 40), now=now)
            if sequence is not None:
                live.append(sequence)
        elif action < 0.5 and live:
            engine.abort(rng.choice(live), now)
        engine.emit(now)
        engine.manager.check_integrity(s.request for s in engine.running)
        assert len(engine.running) <= 5
        assert len(engine.waiting) <= 8 + 5  # the preempted come back in front
    run_to_end(engine)
    assert not engine.running
    assert not engine.waiting
    assert engine.manager.usage == 0.0
    assert all(s.finished for s in live)
