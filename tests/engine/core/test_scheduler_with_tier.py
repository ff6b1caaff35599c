"""Evicted blocks that go to host memory and come back, on a runner that copies them."""

from __future__ import annotations

import random
from typing import Any

import pytest

from shoal.clock import VirtualClock
from shoal.engine.core.kv_cache_events import (
    BlockRemoved,
    BlocksStored,
    HostBlockRemoved,
    HostBlocksStored,
)
from shoal.engine.core.request import Request
from shoal.engine.engine_core import EngineCore
from tests.builders import FakeRunner, make_request, make_scheduler, run_to_end
from tests.engine.core.test_scheduler_properties import expected_output
from tests.overlapping_runner import OverlappingRunner


@pytest.mark.parametrize("max_in_flight", [1, 2])
@pytest.mark.parametrize(
    ("windows", "num_blocks"), [((None,), 25), ((6,), 14), ((None, 6), 40), ((None, 5, 9), 48)]
)
@pytest.mark.parametrize("seed", range(3))
def test_prefixes_that_come_and_go(
    windows: tuple[int | None, ...], num_blocks: int, seed: int, max_in_flight: int
) -> None:
    """Forty prompts with one of six stems, in a cache that holds the blocks of two or three."""
    rng = random.Random(seed)
    scheduler = make_scheduler(
        num_blocks=num_blocks,
        windows=windows,
        max_num_seqs=3,
        max_num_batched_tokens=16,
        num_host_blocks=rng.choice([40, 90]),
        max_saves_per_step=rng.choice([3, 100]),
    )
    runner = OverlappingRunner(windows=windows)
    core = EngineCore(scheduler, runner, VirtualClock(), max_in_flight=max_in_flight)
    stems = [[1_000 * i + j for j in range(24)] for i in range(6)]
    requests: dict[str, Request] = {}
    outputs: dict[str, list[int]] = {}
    aborted: set[str] = set()
    for i in range(40):
        own = [50_000 + 100 * i + j for j in range(rng.randint(1, 9))]
        request = make_request(
            prompt=[*rng.choice(stems)[: rng.choice([12, 24])], *own],
            request_id=f"r{i}",
            arrival_time=float(i),
            max_tokens=rng.randint(1, 12),
            stop_token_ids=tuple(range(1_000, 1_997, 20)),
        )
        assert core.add_request(request) is None
        requests[request.request_id], outputs[request.request_id] = request, []
        for _ in range(rng.randint(0, 5) if i < 39 else 500):
            if not core.has_work():
                break
            result = core.step()
            scheduler.check_integrity()
            for request_id, new in zip(result.req_ids, result.new_token_ids, strict=True):
                outputs[request_id] += new
            if rng.random() < 0.05 and outputs:
                victim = rng.choice(list(outputs))
                core.abort([victim])
                aborted.add(victim)
    assert not core.has_work()
    for request_id, request in requests.items():
        if request_id not in aborted:
            assert outputs[request_id] == expected_output(request)
    stats = scheduler.make_stats()
    assert stats.external_prefix_cache_hits > 20


def conversation(num_tokens: int, name: int = 1) -> list[int]:
    return [10_000 * name + i for i in range(num_tokens)]


def serve(scheduler: Any, runner: FakeRunner, prompt: list[int], **params: Any) -> Request:
    request = make_request(prompt=prompt, **{"max_tokens": 1, **params})
    assert scheduler.add_request(request) is None
    run_to_end(scheduler, runner)
    return request


def test_a_prefix_comes_back_from_the_host_and_is_counted() -> None:
    scheduler = make_scheduler(num_blocks=13, num_host_blocks=50)
    runner = FakeRunner()
    serve(scheduler, runner, conversation(40))
    serve(scheduler, runner, conversation(40, name=2))  # takes the room of the first
    request = serve(scheduler, runner, conversation(40))
    assert request.num_cached_tokens == 36
    stats = scheduler.make_stats()
    # Two of its ten blocks were still on the device: the head, which is evicted last.
    assert (stats.prefix_cache_queries, stats.prefix_cache_hits) == (120, 8)
    assert (stats.external_prefix_cache_queries, stats.external_prefix_cache_hits) == (112, 28)
    assert 0 < stats.host_cache_usage < 1


def test_without_a_tier_it_is_lost() -> None:
    scheduler, runner = make_scheduler(num_blocks=13), FakeRunner()
    for name in (1, 2, 1):
        request = serve(scheduler, runner, conversation(40, name=name))
    assert request.num_cached_tokens == 8
    stats = scheduler.make_stats()
    assert (stats.external_prefix_cache_queries, stats.external_prefix_cache_hits) == (0, 0)


def test_requests_of_one_step_load_a_prefix_once() -> None:
    scheduler = make_scheduler(num_blocks=26, num_host_blocks=50, max_num_batched_tokens=64)
    runner = FakeRunner()
    serve(scheduler, runner, conversation(40))
    serve(scheduler, runner, conversation(90, name=2))
    for i in range(3):
        assert scheduler.add_request(make_request(prompt=[*conversation(40), i])) is None
    out = scheduler.schedule(0.0)
    assert list(out.num_scheduled_tokens.values()) == [1, 1, 1]
    assert out.copies is not None
    assert len(out.copies.loads) == 8  # the other two were still there
    scheduler.update_from_output(out, runner.execute_model(out), 0.0)
    scheduler.check_integrity()


def test_a_preempted_request_finds_its_blocks_again() -> None:
    scheduler = make_scheduler(num_blocks=13, num_host_blocks=50)
    runner = FakeRunner()
    for name, num_prompt in (("much", 30), ("little", 12)):
        request = make_request(num_prompt, request_id=name, max_tokens=15)
        assert scheduler.add_request(request) is None
    loads = 0
    while scheduler.has_unfinished_requests():
        out = scheduler.schedule(0.0)
        loads += len(out.copies.loads) if out.copies is not None else 0
        scheduler.update_from_output(out, runner.execute_model(out), 0.0)
        scheduler.check_integrity()
    assert scheduler.make_stats().num_preemptions == 1
    assert loads > 0


def test_events_tell_of_both_tiers() -> None:
    scheduler = make_scheduler(num_blocks=6, num_host_blocks=4)
    runner = FakeRunner()
    scheduler.record_kv_events()
    serve(scheduler, runner, conversation(17))
    (stored,) = scheduler.take_kv_events()
    assert isinstance(stored, BlocksStored)
    serve(scheduler, runner, conversation(17, name=2))
    kinds = [type(event) for event in scheduler.take_kv_events()]
    assert kinds.count(BlockRemoved) == 4
    assert kinds.count(HostBlocksStored) == 1
    serve(scheduler, runner, conversation(17, name=3))
    events = scheduler.take_kv_events()
    removed = [event.block_hash for event in events if isinstance(event, HostBlockRemoved)]
    assert set(removed) == set(stored.block_hashes)


def test_a_request_that_ends_at_once_keeps_copies_whole() -> None:
    """Aborted in the step that loads its prefix: its blocks stay until the copies are over."""
    scheduler = make_scheduler(num_blocks=13, num_host_blocks=50)
    runner = OverlappingRunner(eos_after={"again": 1})
    core = EngineCore(scheduler, runner, VirtualClock(), max_in_flight=2)
    for name in (1, 2):
        core.add_request(make_request(prompt=conversation(40, name=name), max_tokens=1))
        while core.has_work():
            core.step()
    core.add_request(make_request(prompt=conversation(40), request_id="again"))
    while core.has_work():
        core.step()
        scheduler.check_integrity()
    assert scheduler.make_stats().external_prefix_cache_hits == 28
