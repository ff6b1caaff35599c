from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from shoal.autoscaler.core.arrivals import Arrivals

INTERVAL_S = 5.0


def fed(rate_at: Callable[[float], float], duration_s: float, *, seed: int = 0) -> Arrivals:
    """Counts of a Poisson process."""
    rng, arrivals, now = Random(seed), Arrivals(), 0.0
    while now < duration_s:
        now += INTERVAL_S
        expected, count, total = rate_at(now - INTERVAL_S / 2) * INTERVAL_S, 0, 0.0
        while expected > 0 and (total := total + rng.expovariate(1.0)) < expected:
            count += 1
        arrivals.add(now, INTERVAL_S, count)
    return arrivals


def test_without_observations_nothing_is_known() -> None:
    assert Arrivals().estimate() is None


@pytest.mark.parametrize("seed", range(8))
def test_a_steady_rate_is_known_from_a_long_window(seed: int) -> None:
    rate = fed(lambda t: 20.0, 900, seed=seed).estimate()
    assert rate is not None
    assert rate.now == pytest.approx(20.0, abs=1.5)
    assert rate.at(60.0) == pytest.approx(20.0, abs=3.0)


@pytest.mark.parametrize("seed", range(8))
def test_a_jump_is_noticed_within_20_seconds(seed: int) -> None:
    rate = fed(lambda t: 5.0 if t < 600 else 30.0, 620, seed=seed).estimate()
    assert rate is not None
    assert rate.now > 20.0
    assert rate.span_s < 100.0


def test_silence_after_load_is_noticed_too() -> None:
    rate = fed(lambda t: 10.0 if t < 600 else 0.0, 660).estimate()
    assert rate is not None
    assert rate.now < 1.0


@pytest.mark.parametrize("seed", range(4))
def test_a_trend_is_found_and_goes_on_for_as_long_as_it_lasted(seed: int) -> None:
    rate = fed(lambda t: 10.0 + 0.1 * t, 300, seed=seed).estimate()
    assert rate is not None
    assert rate.slope == pytest.approx(0.1, abs=0.05)
    assert rate.now == pytest.approx(40.0, abs=4.0)
    assert rate.at(60.0) > 42.0
    assert rate.at(10_000.0) == rate.at(rate.span_s)


def test_bursts_widen_what_is_taken_for_chance() -> None:
    calm = fed(lambda t: 10.0, 1200)
    bursty = fed(lambda t: 20.0 if int(t / 5) % 2 else 0.0, 1200)
    assert calm.dispersion < 2.0 < bursty.dispersion
    rate = bursty.estimate()
    assert rate is not None
    assert rate.now == pytest.approx(10.0, abs=4.0)
