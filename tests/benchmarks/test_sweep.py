from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.benchmarks.client.conversation import RequestForm
from shoal.benchmarks.client.messages import Load
from shoal.benchmarks.settings import LoadTest
from shoal.benchmarks.sweep import SweepPlan, at_rate, best_rate, next_rate, run_sweep
from shoal.benchmarks.workload.arrivals import ArrivalSpec
from shoal.benchmarks.workload.spec import WorkloadSpec
from shoal.errors import ConfigError
from tests.benchmarks.conftest import fake_worker, interrupted

PLAN = SweepPlan(start_rate=1.0, resolution=0.1)


@pytest.mark.parametrize(
    ("tried", "expected"),
    [
        ([], 1.0),
        ([(1.0, True)], 2.0),
        ([(1.0, True), (2.0, True)], 4.0),
        ([(1.0, True), (2.0, True), (4.0, False)], 8**0.5),
        ([(1.0, False)], 0.5),
        ([(1.0, False), (0.5, False)], 0.25),
        ([(1.0, False), (0.5, True)], 0.5**0.5),
        ([(1.0, True), (1.1, False)], None),
        ([(PLAN.max_rate, True)], None),
        ([(PLAN.min_rate, False)], None),
        # Noise: 2 failed and 4 passed. What passed is not doubted; the search goes on above it.
        ([(2.0, False), (4.0, True)], 8.0),
    ],
)
def test_the_search_step_by_step(tried: list[tuple[float, bool]], expected: float | None) -> None:
    found = next_rate(PLAN, tried)
    assert found == (None if expected is None else pytest.approx(expected))


@given(
    st.floats(0.02, 4000),
    st.floats(0.02, 4000),
    st.floats(0.02, 0.5),
)
def test_the_limit_ends_up_in_the_bracket(limit: float, start: float, resolution: float) -> None:
    plan = SweepPlan(start_rate=start, resolution=resolution, max_steps=60)
    tried: list[tuple[float, bool]] = []
    while (rate := next_rate(plan, tried)) is not None:
        tried.append((rate, rate <= limit))
    assert len(tried) < 60
    best = best_rate(tried)
    if best is None:
        assert limit < plan.min_rate
        return
    failed = [rate for rate, passed in tried if not passed]
    assert best <= limit
    assert not failed or min(failed) <= best * (1 + resolution) * 1.0001


@given(st.lists(st.booleans(), min_size=20, max_size=20))
def test_noise_does_not_make_it_endless(outcomes: list[bool]) -> None:
    tried: list[tuple[float, bool]] = []
    for passed in outcomes:
        if (rate := next_rate(PLAN, tried)) is None:
            return
        tried.append((rate, passed))
    assert next_rate(PLAN, tried) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"target": 0.0}, "target"),
        ({"target": 1.1}, "target"),
        ({"resolution": 0.0}, "resolution"),
        ({"start_rate": 0.0}, "first rate"),
    ],
)
def test_plans_that_make_no_sense(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SweepPlan(**fields)


def load_test(url: str, *, ttft_s: float = 0.25) -> LoadTest:
    return LoadTest(
        url=url,
        form=RequestForm(model=""),
        workload=WorkloadSpec(input_len="100", output_len="2"),
        load=Load(arrivals=ArrivalSpec(rate=9.0, process="constant"), duration_s=1.0),
        slo={"ttft": ttft_s},
    )


def test_a_step_changes_rate_and_seed_and_nothing_else() -> None:
    test = load_test("http://x")
    step = at_rate(test, 16.0, seed=7)
    assert step.load.arrivals == ArrivalSpec(rate=16.0, process="constant")
    assert step.workload.seed == 7
    assert step.load.duration_s == 1.0
    assert msgspec.structs.replace(step, load=test.load, workload=test.workload) == test


def test_low_rates_get_time_for_ten_requests() -> None:
    assert at_rate(load_test("http://x"), 0.5, seed=7).load.duration_s == 20.0


async def test_a_server_that_answers_nothing_is_not_searched_for_long() -> None:
    with fake_worker("--fault", "error") as url:
        test = msgspec.structs.replace(load_test(url), warmup=0)
        result = await run_sweep(test, SweepPlan(start_rate=16.0))
    assert result.sweep is not None
    assert (len(result.sweep.steps), result.sweep.best_rate) == (2, None)
    assert result.num_succeeded == 0


async def test_a_worker_with_a_limit_is_found_out() -> None:
    """1,000 prompt tokens/s and prompts of 100: above 10 requests/s the queue only grows. In one
    second of 16 requests/s by 0.6 s, of 32 by 2.2 s."""
    with fake_worker("--ttft", "0", "--itl", "0.001", "--prefill-tokens-per-s", "1000") as url:
        plan = SweepPlan(start_rate=8.0, target=0.9, resolution=0.5)
        result = await run_sweep(load_test(url, ttft_s=1.0), plan)
    assert result.sweep is not None
    assert result.sweep.best_rate is not None
    assert 4.0 <= result.sweep.best_rate <= 24.0
    worst = max(result.sweep.steps, key=lambda step: step.rate)
    assert not worst.passed
    assert result.goodput is not None
    assert result.goodput.attainment >= 0.9


async def test_a_sweep_needs_objectives() -> None:
    test = msgspec.structs.replace(load_test("http://x"), slo=None)
    with pytest.raises(ConfigError, match="--slo"):
        await run_sweep(test, PLAN)


async def test_a_sweep_and_repeats_contradict_each_other() -> None:
    test = msgspec.structs.replace(load_test("http://x"), repeats=2)
    with pytest.raises(ConfigError, match="every rate once"):
        await run_sweep(test, PLAN)


async def test_half_a_step_says_nothing_about_its_rate(worker_url: str) -> None:
    load = Load(arrivals=ArrivalSpec(rate=50.0), duration_s=60.0)
    test = msgspec.structs.replace(load_test(worker_url), load=load)
    result = await interrupted(
        lambda seen: run_sweep(test, SweepPlan(start_rate=50.0), lambda _, p: seen(p))
    )
    assert result.interrupted
    assert result.num_succeeded > 5
    assert result.sweep is None
