"""Scheduler and runner together: any mixture of requests gives what each would get alone."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch

from shoal.engine.core.config import CacheConfig, SchedulerConfig
from shoal.engine.core.request import Request, RequestStatus
from shoal.engine.core.sampling_params import SamplingParams
from shoal.engine.core.scheduler import Scheduler
from shoal.engine.runner.model_runner import TorchModelRunner
from tests.engine.runner.fake_model import VOCAB, FakeModel, expected_tokens

MAX_MODEL_LEN = 64


class Engine:
    """A scheduler and a runner on a cache of `num_blocks` blocks of 4 tokens."""

    def __init__(self, model: FakeModel, *, num_blocks: int, max_num_seqs: int = 8) -> None:
        cache = CacheConfig(num_blocks=num_blocks, block_size=4, groups=model.config.kv_groups)
        config = SchedulerConfig(
            max_num_seqs=max_num_seqs, max_num_batched_tokens=16, max_model_len=MAX_MODEL_LEN
        )
        self.scheduler = Scheduler(config, cache)
        self.outputs: dict[str, list[int]] = {}
        self._runner = TorchModelRunner(
            model, cache=cache, scheduler=config, device=torch.device("cpu"), dtype=torch.float32
        )

    def add(self, request_id: str, prompt: Sequence[int], **params: object) -> None:
        request = Request(
            request_id,
            prompt,
            sampling_params=SamplingParams(**{"temperature": 0.0, **params}),  # type: ignore[arg-type]
            arrival_time=0.0,
        )
        rejection = self.scheduler.add_request(request)
        assert rejection is None, rejection
        self.outputs[request_id] = []

    def step(self) -> None:
        scheduled = self.scheduler.schedule(0.0)
        computed = self._runner.execute_model(scheduled)
        result = self.scheduler.update_from_output(scheduled, computed, 0.0)
        self.scheduler.check_integrity()
        for request_id, token_ids in zip(result.req_ids, result.new_token_ids, strict=True):
            self.outputs[request_id] += token_ids

    def run(self, *, max_steps: int = 2_000) -> dict[str, list[int]]:
        for _ in range(max_steps):
            if not self.scheduler.has_unfinished_requests():
                return self.outputs
            self.step()
        raise AssertionError(f"not done after {max_steps} steps: {self.scheduler.make_stats()}")


@pytest.mark.parametrize(
    ("windows", "num_blocks"), [((None,), 41), ((6,), 12), ((None, 6), 50), ((None, 5, 17), 70)]
)
@pytest.mark.parametrize("seed", range(3))
def test_greedy_tokens_under_pressure(
    windows: tuple[int | None, ...], num_blocks: int, seed: int
) -> None:
    """24 requests with shared prefixes arrive over time in a cache that holds about three."""
    rng = random.Random(seed)
    engine = Engine(FakeModel(windows), num_blocks=num_blocks)
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
    assert stats.num_preemptions > 0
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
    crowded = Engine(FakeModel(), num_blocks=30)
    for i, (request_id, prompt) in enumerate(prompts.items()):
        crowded.add(request_id, prompt, seed=i, **params)
    outputs = crowded.run()
    assert crowded.scheduler.make_stats().num_preemptions > 0
    for i, (request_id, prompt) in enumerate(prompts.items()):
        alone = Engine(FakeModel(), num_blocks=30)
        alone.add("other id", prompt, seed=i, **params)
        assert alone.run()["other id"] == outputs[request_id]


def test_aborts_leave_the_others_alone() -> None:
    engine = Engine(FakeModel(), num_blocks=60)
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
    engine = Engine(FakeModel(), num_blocks=18)
    engine.add("a", [1, 2, 3], max_tokens=1_000)
    assert engine.run()["a"] == expected_tokens([1, 2, 3], MAX_MODEL_LEN - 3)
