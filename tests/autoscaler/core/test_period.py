from __future__ import annotations

from math import pi, sin
from random import Random

import pytest

from shoal.autoscaler.core.period import BUCKET_S, MEMORY_S, PeriodFinder


def find(rates: list[float], *, interval_s: float = BUCKET_S) -> float | None:
    finder = PeriodFinder()
    for rate in rates:
        finder.add(interval_s, rate * interval_s)
    return finder.period_s()


@pytest.mark.parametrize("period_s", [300.0, 600.0, 1000.0])
def test_the_period_of_a_wave_is_found_in_noise(period_s: float) -> None:
    rng = Random(1)
    rates = [
        rng.gauss(10 + 5 * sin(2 * pi * i * BUCKET_S / period_s), 1.0) for i in range(120)
    ]  # fmt: skip
    assert find(rates) == pytest.approx(period_s, rel=0.05)


def test_bursts_by_the_clock_are_found() -> None:
    assert find([20.0 if i % 20 < 3 else 5.0 for i in range(100)]) == pytest.approx(600, rel=0.01)


def test_what_does_not_repeat_has_no_period() -> None:
    rng = Random(2)
    assert find([rng.gauss(10, 3) for _ in range(400)]) is None
    assert find([5.0] * 400) is None
    assert find([]) is None


def test_two_periods_are_too_few() -> None:
    wave = [10 + 5 * sin(2 * pi * i / 40) for i in range(200)]
    assert find(wave[:80]) is None
    assert find(wave[:110]) == pytest.approx(40 * BUCKET_S, rel=0.05)


def test_intervals_need_not_fit_buckets_and_memory_is_bounded() -> None:
    rates = [20.0 if i * 7 % 600 < 90 else 5.0 for i in range(1000)]
    assert find(rates, interval_s=7.0) == pytest.approx(600, rel=0.05)
    finder = PeriodFinder()
    finder.add(100 * MEMORY_S, 3.0)
    assert len(finder.rates) == int(MEMORY_S / BUCKET_S)
