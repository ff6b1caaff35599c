"""Steps that overlap give the tokens of steps that do not, whatever a request asks for."""

from __future__ import annotations

import random
from typing import Any

import pytest

from shoal.engine.core.request import RequestStatus
from tests.engine.runner.fake_model import VOCAB, FakeModel, expected_tokens
from tests.engine.runner.overlapping_backend import OverlappingBackend
from tests.engine.runner.running_engine import RunningEngine

Requests = dict[str, tuple[list[int], dict[str, Any]]]


def make_requests(seed: int, *, num_requests: int = 16) -> Requests:
    """All that a plan can hold, some of it needs to know the token before."""
    rng = random.Random(seed)
    stem = [rng.randrange(VOCAB) for _ in range(20)]
    requests: Requests = {}
    for i in range(num_requests):
        own = [rng.randrange(VOCAB) for _ in range(rng.randint(1, 15))]
        params: dict[str, Any] = {"max_tokens": rng.randint(1, 24)}
        if rng.random() < 0.4:
            params |= {"temperature": 3.0, "seed": i}
        if rng.random() < 0.06:  # no step with one of these overlaps the one before
            params |= {"repetition_penalty": 1.5, "presence_penalty": 1.0, "frequency_penalty": 0.5}
        if rng.random() < 0.3:
            params |= {"stop_token_ids": tuple(range(0, VOCAB, 7))}
            params |= {"min_tokens": rng.randint(0, params["max_tokens"])}
        if rng.random() < 0.2:
            params |= {"logprobs": 2}
        if rng.random() < 0.2:
            params |= {"prompt_logprobs": 1}
        if rng.random() < 0.2:
            params |= {"logit_bias": {3: 5.0, 9: -5.0}}
        requests[f"r{i}"] = (stem[: rng.choice([0, 0, 8, 13, 20])] + own, params)
    return requests


def run(
    requests: Requests,
    *,
    overlaps: bool,
    num_blocks: int,
    windows: tuple[int | None, ...] = (None,),
) -> RunningEngine:
    engine = RunningEngine(FakeModel(windows), num_blocks=num_blocks, overlaps=overlaps)
    for i, (request_id, (prompt, params)) in enumerate(requests.items()):
        engine.add(request_id, prompt, **params)
        if i % 3 == 2:
            engine.step()
    engine.run()
    return engine


def logprobs(engine: RunningEngine) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for report in engine.reports:
        for request_id, entries in (*report.logprobs.items(), *report.prompt_logprobs.items()):
            found.setdefault(request_id, []).extend(entries)
    return found


@pytest.mark.parametrize(
    ("windows", "num_blocks"), [((None,), 101), ((None,), 33), ((6,), 16), ((None, 6), 50)]
)
@pytest.mark.parametrize("seed", range(4))
def test_the_same_tokens_and_log_probabilities(
    windows: tuple[int | None, ...], num_blocks: int, seed: int
) -> None:
    requests = make_requests(seed)
    plain = run(requests, overlaps=False, num_blocks=num_blocks, windows=windows)
    overlapped = run(requests, overlaps=True, num_blocks=num_blocks, windows=windows)
    assert overlapped.outputs == plain.outputs
    assert logprobs(overlapped) == logprobs(plain)
    backend = overlapped.backend
    assert isinstance(backend, OverlappingBackend)
    assert backend.num_overlapped > 10
    assert backend.num_taken > 10


def test_greedy_tokens_are_those_of_the_model() -> None:
    prompts = {f"r{i}": [i, 2 * i, 7] for i in range(8)}
    engine = RunningEngine(FakeModel(), num_blocks=101, overlaps=True)
    for request_id, prompt in prompts.items():
        engine.add(request_id, prompt, max_tokens=20)
    outputs = engine.run()
    assert outputs == {id_: expected_tokens(prompt, 20) for id_, prompt in prompts.items()}


def test_a_row_that_changes_hands_in_flight_keeps_its_new_tokens() -> None:
    """The aborted request's token comes when another has its row; ends by length leave a bubble
    neither."""
    engine = RunningEngine(FakeModel(), num_blocks=101, overlaps=True)
    for i in range(8):
        engine.add(f"old{i}", [i, 1, 2], max_tokens=30)
    engine.step()
    engine.scheduler.finish_requests([f"old{i}" for i in range(8)], RequestStatus.FINISHED_ABORTED)
    prompts = {f"new{i}": [i, 40, 50] for i in range(8)}
    for request_id, prompt in prompts.items():
        engine.add(request_id, prompt, max_tokens=10)
    outputs = engine.run()
    for request_id, prompt in prompts.items():
        assert outputs[request_id] == expected_tokens(prompt, 10)


def test_a_penalty_waits_for_the_token_before_and_others_do_not() -> None:
    def num_overlapped(**params: Any) -> int:
        engine = RunningEngine(FakeModel(), num_blocks=101, overlaps=True)
        engine.add("a", [1, 2, 3], max_tokens=20, **params)
        engine.run()
        assert isinstance(engine.backend, OverlappingBackend)
        return engine.backend.num_overlapped

    assert num_overlapped() == 19
    assert num_overlapped(min_tokens=10, stop_token_ids=(5,)) == 19
    assert num_overlapped(logit_bias={3: 1.0}) == 19
    assert num_overlapped(repetition_penalty=1.2) == 0
