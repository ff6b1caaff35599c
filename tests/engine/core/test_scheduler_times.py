"""The scheduler in virtual time: what it learns of its steps, and what that does to latencies."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from itertools import pairwise
from math import exp
from statistics import mean, median
from typing import Any

import pytest

from shoal.engine.core.output import ReasonKind
from shoal.engine.core.scheduler import Scheduler
from shoal.engine.core.step_time import StepShape, StepTimeModel
from tests.builders import make_request, make_scheduler
from tests.engine.core.virtual_time import CostModel, Simulation, small_model_on_a_cpu


def make_simulation(cost: CostModel = small_model_on_a_cpu, **config: Any) -> Simulation:
    defaults: dict[str, Any] = {
        "num_blocks": 3_000,
        "block_size": 16,
        "max_num_seqs": 64,
        "max_num_batched_tokens": 512,
        "max_model_len": 5_000,
        "queue_timeout_s": None,
        "enable_prefix_caching": False,
    }
    return Simulation(make_scheduler(**{**defaults, **config}), cost)


@pytest.fixture
def constant_budget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Schedulers that learn nothing, so that tokens are the only budget."""
    with monkeypatch.context() as patch:
        patch.setattr(StepTimeModel, "observe", lambda *_: None)
        yield


def add(simulation: Simulation, num_prompt_tokens: int, **kwargs: Any) -> str:
    request = make_request(
        num_prompt_tokens, arrival_time=simulation.now, ignore_eos=True, **kwargs
    )
    simulation.add(request)
    return request.request_id


def decode_quietly(simulation: Simulation, *, num_decodes: int = 8) -> float:
    """Start some answers, wait until all flow; the median seconds of their steps."""
    for _ in range(num_decodes):
        add(simulation, 100, max_tokens=2_000)
    while simulation.step().shape != StepShape(
        num_decodes, simulation.steps[-1].shape.decode_context
    ):
        pass
    for _ in range(60):
        simulation.step()
    return median(step.seconds for step in simulation.steps[-30:])


def seconds_until_first_token(simulation: Simulation, request_id: str) -> list[float]:
    first = len(simulation.steps)
    while request_id not in simulation.token_times:
        simulation.step()
    return [step.seconds for step in simulation.steps[first:]]


def test_a_long_prompt_does_not_stall_running_answers() -> None:
    simulation = make_simulation()
    quiet_s = decode_quietly(simulation)
    assert quiet_s == pytest.approx(0.0135, abs=0.0005)
    prompt = add(simulation, 4_000, max_tokens=10)
    steps_s = seconds_until_first_token(simulation, prompt)
    assert max(steps_s) < 2.5 * quiet_s
    # Nor is time given away: the prompt gets half of it, so it takes little more than twice the
    # 6 s that it takes in chunks of 512.
    assert median(steps_s) > 1.9 * quiet_s
    assert simulation.ttft(prompt) < 12.5


@pytest.mark.usefixtures("constant_budget")
def test_with_a_constant_budget_it_would() -> None:
    simulation = make_simulation()
    quiet_s = decode_quietly(simulation)
    prompt = add(simulation, 4_000, max_tokens=10)
    assert max(seconds_until_first_token(simulation, prompt)) > 60 * quiet_s
    assert simulation.ttft(prompt) == pytest.approx(6.1, abs=0.1)


def test_noise_and_disturbed_steps_do_not_mislead_it() -> None:
    rng = random.Random(0)

    def noisy(shape: StepShape) -> float:
        disturbed = 5.0 if rng.random() < 0.01 else 1.0
        return small_model_on_a_cpu(shape) * exp(rng.gauss(0, 0.1)) * disturbed

    simulation = make_simulation(noisy)
    quiet_s = decode_quietly(simulation)
    prompt = add(simulation, 4_000, max_tokens=10)
    steps_s = sorted(seconds_until_first_token(simulation, prompt))
    assert 1.7 * quiet_s < median(steps_s) < 2.3 * quiet_s
    assert steps_s[int(0.95 * len(steps_s))] < 2.7 * quiet_s


def test_when_the_machine_gets_slower_chunks_follow() -> None:
    """Decodes alone do not tell that prefills are slower too; some chunks do."""
    slower = 1.0
    simulation = make_simulation(lambda shape: slower * small_model_on_a_cpu(shape))
    quiet_s = decode_quietly(simulation)
    slower = 2.0  # another process takes half of it
    for _ in range(100):
        simulation.step()
    prompt = add(simulation, 4_000, max_tokens=10)
    steps_s = seconds_until_first_token(simulation, prompt)
    assert max(steps_s) < 4 * 2 * quiet_s
    assert max(steps_s[30:]) < 2.5 * 2 * quiet_s


def test_a_target_that_is_set_replaces_the_learnt_one() -> None:
    simulation = make_simulation(itl_target_s=0.050)
    decode_quietly(simulation)
    prompt = add(simulation, 4_000, max_tokens=10)
    steps_s = seconds_until_first_token(simulation, prompt)
    assert median(steps_s) == pytest.approx(0.050, rel=0.05)
    assert max(steps_s) < 0.055


def test_a_target_below_the_decodes_leaves_prefills_a_share() -> None:
    simulation = make_simulation(itl_target_s=0.001)
    quiet_s = decode_quietly(simulation, num_decodes=32)
    prompt = add(simulation, 500, max_tokens=10)
    steps_s = seconds_until_first_token(simulation, prompt)
    assert max(steps_s) < 1.25 * quiet_s
    assert len(steps_s) <= 500 / 4


def test_steps_without_decodes_are_bounded_too() -> None:
    """20 ms a token: 512 of them would keep an abort waiting for 10 s."""
    simulation = make_simulation(lambda shape: 0.05 + 0.02 * shape.prefill_tokens)
    add(simulation, 600, max_tokens=1)
    simulation.step()  # nothing is known yet
    for _ in range(3):
        simulation.step()
    assert simulation.steps[0].seconds > 10
    assert simulation.steps[3].seconds < 0.6


def closed_loop(
    simulation: Simulation, *, num_requests: int, num_prompt_tokens: int, max_tokens: int
) -> float:
    """32 requests under way at all times; output tokens per second."""
    num_sent = 0
    while simulation.scheduler.has_unfinished_requests() or num_sent < num_requests:
        stats = simulation.scheduler.make_stats()
        for _ in range(32 - stats.num_running - stats.num_waiting):
            if num_sent < num_requests:
                add(simulation, num_prompt_tokens, max_tokens=max_tokens)
                num_sent += 1
        simulation.step()
    return num_requests * max_tokens / (simulation.now - simulation.steps[0].start)


def itl_p99(simulation: Simulation) -> float:
    times = simulation.token_times.values()
    gaps = sorted(b - a for each in times for a, b in pairwise(each))
    return gaps[int(0.99 * len(gaps))]


def mean_seconds_to_the_end(simulation: Simulation) -> float:
    arrivals = simulation.arrivals
    return mean(times[-1] - arrivals[name] for name, times in simulation.token_times.items())


@pytest.mark.parametrize(
    ("num_prompt_tokens", "max_tokens", "share"),
    [pytest.param(128, 128, 0.97, id="mixed"), pytest.param(1_000, 100, 0.9, id="mostly prefill")],
)
def test_throughput_stays(
    monkeypatch: pytest.MonkeyPatch, num_prompt_tokens: int, max_tokens: int, share: float
) -> None:
    load = {
        "num_requests": 96, "num_prompt_tokens": num_prompt_tokens, "max_tokens": max_tokens
    }  # fmt: skip
    learnt = make_simulation()
    tokens_per_s = closed_loop(learnt, **load)
    monkeypatch.setattr(StepTimeModel, "observe", lambda *_: None)
    constant = make_simulation()
    assert tokens_per_s > share * closed_loop(constant, **load)
    assert itl_p99(learnt) < 0.2 * itl_p99(constant)
    assert mean_seconds_to_the_end(learnt) < 1.05 * mean_seconds_to_the_end(constant)


def test_a_burst_is_not_held_back_for_the_few_that_run() -> None:
    """64 prompts at once, 4 answers running: prompts get their share, not half."""
    simulation = make_simulation()
    decode_quietly(simulation, num_decodes=4)
    prompts = [add(simulation, 128, max_tokens=32) for _ in range(60)]
    while not all(prompt in simulation.token_times for prompt in prompts):
        simulation.step()
    # 8 s of work; with half of each step they would take 16 s.
    assert mean(map(simulation.ttft, prompts)) < 6
    assert max(map(simulation.ttft, prompts)) < 12.5


def test_a_short_prompt_does_not_wait_for_a_long_one_before_it() -> None:
    simulation = make_simulation()
    quiet_s = decode_quietly(simulation)
    long = add(simulation, 4_000, max_tokens=10)
    for _ in range(5):
        simulation.step()
    short = add(simulation, 100, max_tokens=10)
    seconds_until_first_token(simulation, short)
    assert simulation.ttft(short) < 0.7  # alone it would take 0.23 s
    assert long not in simulation.token_times
    seconds_until_first_token(simulation, long)
    assert simulation.ttft(long) < 13
    assert max(step.seconds for step in simulation.steps[-400:]) < 2.5 * quiet_s


def test_who_finds_no_blocks_does_not_take_time_from_who_runs() -> None:
    simulation = make_simulation(num_blocks=400)
    quiet_s = decode_quietly(simulation)
    prompt = add(simulation, 4_000, max_tokens=10)
    simulation.step()
    waits = add(simulation, 3_000, max_tokens=10)
    steps_s = [simulation.step().seconds for _ in range(20)]
    assert min(steps_s) > 1.9 * quiet_s
    assert {prompt, waits}.isdisjoint(simulation.token_times)


def test_the_reason_tells_which_budget_it_was() -> None:
    simulation = make_simulation()
    decode_quietly(simulation)
    add(simulation, 4_000, request_id="first", max_tokens=10)
    out = simulation.step().out
    assert [(r.kind, r.request_id) for r in out.reasons] == [(ReasonKind.BUDGET, "first")]
    assert out.reasons[0].detail.endswith(" left; it is to take 27 ms")
    num_tokens = out.num_scheduled_tokens["first"]
    assert out.reasons[0].detail.startswith(
        f"{num_tokens} tokens in this step, {4_000 - num_tokens} left"
    )


@pytest.mark.usefixtures("constant_budget")
def test_the_reason_does_not_blame_time_for_the_token_budget() -> None:
    simulation = make_simulation()
    add(simulation, 4_000, request_id="first", max_tokens=10)
    assert simulation.step().out.reasons[0].detail == "512 tokens in this step, 3488 left"


def test_a_running_prefill_that_time_leaves_out_says_so() -> None:
    """Attention gets so dear that two chunks of the smallest size are too long for one step."""
    simulation = make_simulation(
        lambda shape: small_model_on_a_cpu(shape) + 1e-6 * shape.prefill_pairs
    )
    decode_quietly(simulation)
    first = add(simulation, 2_000, max_tokens=10)
    second = add(simulation, 2_000, max_tokens=10)
    seconds_until_first_token(simulation, first)
    left_out = [
        reason.detail
        for step in simulation.steps
        for reason in step.out.reasons
        if reason.request_id == second and second not in step.out.num_scheduled_tokens
    ]
    assert left_out
    for detail in left_out:
        assert re.fullmatch(r"nothing left in this step; it is to take [23]\d ms", detail)


def test_a_clock_that_stands_still_leaves_the_budget_constant() -> None:
    simulation = make_simulation(lambda _: 0.0)
    decode_quietly(simulation)
    add(simulation, 4_000, max_tokens=10)
    assert simulation.step().shape.prefill_tokens == 504


def test_steps_are_timed_from_their_own_schedule_to_their_own_output() -> None:
    """Idle time between steps is not the step's."""
    scheduler: Scheduler = make_scheduler()
    simulation = Simulation(scheduler, small_model_on_a_cpu)
    for _ in range(100):
        add(simulation, 20, max_tokens=3)
        while scheduler.has_unfinished_requests():
            simulation.step()
        simulation.now += 10.0
    add(simulation, 100, max_tokens=3)
    assert simulation.step().shape.prefill_tokens == 32  # the token budget; 10 s would forbid it
