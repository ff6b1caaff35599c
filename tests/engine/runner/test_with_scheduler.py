"""Scheduler and runner together: any mixture of requests gives what each would get alone."""

from __future__ import annotations

import random

import pytest

from shoal.engine.core.request import RequestStatus
from tests.engine.runner.fake_model import VOCAB, FakeModel, expected_tokens
from tests.engine.runner.running_engine import MAX_MODEL_LEN, RunningEngine


@pytest.mark.parametrize(
    ("windows", "num_blocks"), [((None,), 41), ((6,), 12), ((None, 6), 50), ((None, 5, 17), 70)]
)
@pytest.mark.parametrize("seed", range(3))
def test_greedy_tokens_under_pressure(
    windows: tuple[int | None, ...], num_blocks: int, seed: int
) -> None:
    """24 requests with shared prefixes arrive over time in a cache that holds a few of them."""
    rng = random.Random(seed)
    engine = RunningEngine(FakeModel(windows), num_blocks=num_blocks)
    stem = [rng.randrange(VOCAB) for _ in range(20)]
    prompts, lengths = {}, {}
    for i in range(24):
        own = [rng.randrange(VOCAB) for _ in range(rng.randint(1, 15))]
        prompts[f"r{i}"] = stem[: rng.choice([0, 0, 8, 13, 20])] + own
        lengths[f"r{i}"] = rng.randint(1, 28)
    for request_id, prompt in prompts.items():
        engine.add(request_id, prompt, max_tokens=lengths[request_id])
        for _ in range(rng.randint(0, 2)):
            engine.step()
    outputs = engine.run()
    stats = engine.scheduler.make_stats()
    assert stats.num_preemptions > 0 or None not in windows  # a window never grows
    assert stats.prefix_cache_hits > 0
    for request_id, prompt in prompts.items():
        expected = expected_tokens(prompt, lengths[request_id], windows=windows)
        assert outputs[request_id] == expected, request_id


def test_seeded_tokens_are_the_same_alone_and_under_pressure() -> None:
    rng = random.Random(0)
    prompts = {
        f"r{i}": [rng.randrange(VOCAB) for _ in range(rng.randint(1, 20))] for i in range(16)
    }
    params = {"max_tokens": 20, "temperature": 2.0, "top_p": 0.95}
    crowded = RunningEngine(FakeModel(), num_blocks=30)
    for i, (request_id, prompt) in enumerate(prompts.items()):
        crowded.add(request_id, prompt, seed=i, **params)
    outputs = crowded.run()
    assert crowded.scheduler.make_stats().num_preemptions > 0
    for i, (request_id, prompt) in enumerate(prompts.items()):
        alone = RunningEngine(FakeModel(), num_blocks=30)
        alone.add("other id", prompt, seed=i, **params)
        assert alone.run()["other id"] == outputs[request_id]


def test_aborts_leave_the_others_alone() -> None:
    engine = RunningEngine(FakeModel(), num_blocks=60)
    prompts = {f"r{i}": [i, i + 1, i + 2] for i in range(12)}
    for request_id, prompt in prompts.items():
        engine.add(request_id, prompt, max_tokens=15)
    for i in range(0, 12, 2):
        engine.step()
        engine.scheduler.finish_requests([f"r{i}"], RequestStatus.FINISHED_ABORTED)
    outputs = engine.run()
    for i in range(1, 12, 2):
        assert outputs[f"r{i}"] == expected_tokens(prompts[f"r{i}"], 15)


def test_a_request_as_long_as_the_model_allows() -> None:
    engine = RunningEngine(FakeModel(), num_blocks=18)
    engine.add("a", [1, 2, 3], max_tokens=1_000)
    assert engine.run()["a"] == expected_tokens([1, 2, 3], MAX_MODEL_LEN - 3)
