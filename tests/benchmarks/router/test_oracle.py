"""The bound of hit rates, by the workers' own rules."""

from __future__ import annotations

import pytest

from shoal.benchmarks.fake_worker import tokens
from shoal.benchmarks.fake_worker.engine import FakeEngine, FakeEngineConfig
from shoal.benchmarks.router.loads.conversations import Prompt
from shoal.benchmarks.router.oracle import fake_bound, greedy_answer, mock_bound


def prompt(*contents: str) -> Prompt:
    return Prompt(messages=[{"role": "user", "content": content} for content in contents])


def test_a_prompt_hits_what_any_earlier_one_had() -> None:
    # With its line end the first has 2 full blocks; the second 4, of which the first 2 are known.
    first, second = prompt("a" * 128), prompt("a" * 128 + "b" * 128)
    assert mock_bound([first]) == 0
    assert mock_bound([first, second]) == pytest.approx(2 / 6)
    assert mock_bound([first, second, second]) == pytest.approx(6 / 10)


def test_the_same_block_elsewhere_is_another_one() -> None:
    assert mock_bound([prompt("a" * 64), prompt("b" * 64 + "a" * 64)]) == 0


def test_fake_workers_count_tokens_and_remember_everything() -> None:
    words = " ".join(f"{number:06x}" for number in range(300))
    once = fake_bound([prompt(words)], answer_tokens=4)
    twice = fake_bound([prompt(words), prompt(words)], answer_tokens=4)
    assert once == 0
    assert 0.45 < twice < 0.5


def test_a_greedy_answer_is_the_fake_workers() -> None:
    messages = [("user", "Tell me a story.")]
    engine = FakeEngine(FakeEngineConfig(seed=3))
    ids = tokens.encode(tokens.render_chat(messages))
    sequence = engine.add("r", ids, max_tokens=12, now=0.0)
    assert sequence is not None
    engine.emit(1e9)
    while engine.next_due is not None:
        engine.emit(engine.next_due)
    expected = tokens.decode(sequence.pending)
    assert greedy_answer(messages, num_tokens=12, seed=3) == expected
