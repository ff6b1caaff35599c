"""What is learnt of endpoints: how fast, how surely, and what moves nothing."""

from __future__ import annotations

from math import inf, nan
from random import Random

import pytest

from shoal.router.core.ttft_model import (
    FLEET_FIRST,
    HALF_LIFE_S,
    HIGHEST,
    LOWEST,
    PRIOR,
    TTFTModels,
)


def serve(
    models: TTFTModels,
    names: list[str],
    number: int,
    *,
    speed: dict[str, float] | None = None,
    token_s: float = 1e-3,
    seed: int = 1,
    noise: float = 0.2,
    now: float = 0.0,
) -> float:
    """Requests of all sizes to each endpoint in turn, a tenth of a second apart; the time after."""
    random = Random(seed)
    for _ in range(number):
        for name in names:
            uncached, ahead = random.randrange(50, 2000), random.choice([0, 0, 500, 2000])
            running = random.randrange(8)
            seconds = 0.03 + token_s * (uncached + ahead) + 0.002 * running
            seconds *= (speed or {}).get(name, 1.0) * random.uniform(1 - noise, 1 + noise)
            models.observe(
                name,
                seconds,
                uncached_tokens=uncached,
                tokens_ahead=ahead,
                num_running=running,
                now=now,
            )
            now += 0.1
    models.refresh(now)
    return now


def test_before_the_first_observation_there_is_a_prior() -> None:
    models = TTFTModels()
    expected = PRIOR.base_s + 1000 * PRIOR.token_s + 500 * PRIOR.token_s + 4 * PRIOR.running_s
    assert models.estimate(
        "a", uncached_tokens=1000, tokens_ahead=500, num_running=4
    ) == pytest.approx(expected)


@pytest.mark.parametrize("token_s", [1e-5, 1e-4, 1e-3, 1e-2])
def test_twenty_requests_teach_the_fleet_its_speed(token_s: float) -> None:
    models = TTFTModels()
    serve(models, ["a", "b"], 10, token_s=token_s)
    for tokens in (500, 1500):
        estimate = models.estimate("never seen", uncached_tokens=tokens)
        assert estimate == pytest.approx(0.03 + token_s * tokens, rel=0.35)


def test_twenty_requests_tell_a_slow_endpoint_from_a_fast_one() -> None:
    models = TTFTModels()
    now = serve(models, ["a", "b"], 20, seed=3)
    serve(models, ["slow", "fast"], 20, speed={"slow": 3.0}, seed=5, now=now)
    slow, fast = (models.estimate(name, uncached_tokens=1000) for name in ("slow", "fast"))
    assert 2.0 < slow / fast < 4.0


@pytest.mark.parametrize("seed", range(5))
def test_noise_alone_hardly_tells_equal_ones_apart(seed: int) -> None:
    models = TTFTModels()
    names = ["a", "b", "c", "d"]
    serve(models, names, 30, seed=seed, noise=0.3)
    estimates = [models.estimate(name, uncached_tokens=1000) for name in names]
    assert max(estimates) / min(estimates) < 1.35


def test_a_change_is_noticed_within_twenty_requests() -> None:
    models = TTFTModels()
    now = serve(models, ["a", "b"], 50)
    before = models.estimate("a", uncached_tokens=1000)
    now = serve(models, ["a", "b"], 20, speed={"a": 4.0}, seed=2, now=now)
    assert models.estimate("a", uncached_tokens=1000) > 2.5 * before
    serve(models, ["a", "b"], 20, seed=3, now=now)
    assert models.estimate("a", uncached_tokens=1000) < 1.5 * before


def test_one_outlier_moves_little() -> None:
    models = TTFTModels()
    now = serve(models, ["a", "b"], 50)
    before = models.estimate("a", uncached_tokens=1000)
    models.observe(
        "a", 600.0, uncached_tokens=1000, tokens_ahead=0, num_running=0, num_waiting=0, now=now
    )
    assert models.estimate("a", uncached_tokens=1000) < 1.4 * before


def test_nonsense_is_ignored() -> None:
    models = TTFTModels()
    serve(models, ["a"], 30)
    before = dict(models.coefficients)
    for seconds in (0.0, -1.0, inf, nan):
        models.observe("a", seconds, uncached_tokens=1, tokens_ahead=0, num_running=0, now=50.0)
        models.finished("a", seconds)
    assert models.coefficients == before


def test_coefficients_stay_inside_their_bounds() -> None:
    models = TTFTModels()
    random = Random(4)
    for number in range(500):
        models.observe(
            "a",
            random.choice([1e-6, 1e-3, 1.0, 3000.0]),
            uncached_tokens=random.choice([0, 1, 10, 100_000]),
            tokens_ahead=random.choice([0, 1_000_000]),
            num_running=random.choice([0, 1000]),
            num_waiting=random.choice([0, 100]),
            now=number * 0.01,
        )
        for learnt in models.coefficients.values():
            for name in ("base_s", "token_s", "running_s", "waiting_s"):
                value = getattr(learnt, name)
                assert getattr(LOWEST, name) * 0.999 <= value <= getattr(HIGHEST, name) * 1.001


def test_an_endpoint_not_measured_lately_drifts_back_to_the_fleet() -> None:
    models = TTFTModels()
    now = serve(models, ["a", "b", "c", "slow"], 40, speed={"slow": 5.0})
    own = models.estimate("slow", uncached_tokens=1000)
    for _ in range(5):
        now = serve(models, ["a", "b", "c"], 5, now=now + HALF_LIFE_S)
    others = models.estimate("a", uncached_tokens=1000)
    assert others < models.estimate("slow", uncached_tokens=1000) < others + 0.1 * (own - others)


def test_a_worker_that_was_replaced_starts_as_an_average_one() -> None:
    models = TTFTModels()
    serve(models, ["a", "b", "slow"], 30, speed={"slow": 5.0})
    models.forget("slow")
    models.forget("never seen")
    assert "slow" not in models.coefficients
    assert models.estimate("slow", uncached_tokens=10) == models.estimate(
        "never seen", uncached_tokens=10
    )


def test_the_first_requests_of_all_teach_the_fleet_alone() -> None:
    models = TTFTModels()
    serve(models, ["a"], FLEET_FIRST)
    assert models.coefficients == {}
    assert models.default != PRIOR


def test_a_queue_moves_as_fast_as_requests_end() -> None:
    models = TTFTModels()
    serve(models, ["a", "b"], 30)  # with 3.5 others on average
    for _ in range(100):
        models.finished("a", 9.0)
        models.finished("b", 0.9)
    models.finished("never seen", 1.0)
    models.refresh(100.0)
    assert models.coefficients["a"].waiting_s == pytest.approx(2.0, rel=0.3)
    assert models.coefficients["b"].waiting_s == pytest.approx(0.2, rel=0.3)


def test_time_in_the_queue_is_not_taken_for_slowness() -> None:
    models = TTFTModels()
    serve(models, ["a"], 40)
    for _ in range(100):
        models.finished("a", 9.0)
    before = models.estimate("a", uncached_tokens=1000)
    for number in range(30):
        models.observe(
            "a",
            1.03 + 2.0 * 3,
            uncached_tokens=1000,
            tokens_ahead=0,
            num_running=3,
            num_waiting=3,
            now=100.0 + number,
        )
    assert models.estimate("a", uncached_tokens=1000) < 2.0 * before


def learnt(speeds: dict[str, float]) -> dict[str, float]:
    """What 1,000 tokens are expected to take on workers of these speeds, measured with noise."""
    models = TTFTModels()
    rng = Random(3)
    for step in range(400):
        for endpoint_id, slowness in speeds.items():
            tokens = rng.randrange(50, 2000)
            ttft_s = slowness * (0.01 + 1e-4 * tokens) * rng.uniform(0.9, 1.1)
            models.observe(
                endpoint_id, ttft_s, uncached_tokens=tokens, tokens_ahead=0, num_running=0, now=step
            )
    models.refresh(400.0)
    return {name: models.estimate(name, uncached_tokens=1000) for name in speeds}


def test_workers_that_measure_nearly_equal_are_equal() -> None:
    """A few per cent are noise, and a cache is worth more."""
    times = learnt({"a": 1.0, "b": 1.03, "c": 0.98, "d": 1.02})
    assert max(times.values()) < 1.1 * min(times.values())


def test_a_worker_that_is_slow_is_slow() -> None:
    times = learnt({"a": 1.0, "b": 1.0, "c": 2.5})
    assert times["c"] > 1.8 * max(times["a"], times["b"])
