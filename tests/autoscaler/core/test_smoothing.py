"""Known series, exact numbers."""

from __future__ import annotations

from math import exp

import pytest

from shoal.autoscaler.core.smoothing import Forecaster, Level, Trend


def feed(member: Forecaster, rates: list[float], *, interval_s: float = 5.0) -> None:
    for index, rate in enumerate(rates):
        member.add((index + 1) * interval_s, interval_s, rate * interval_s)


@pytest.mark.parametrize("member", [Level(60.0), Trend(60.0)])
def test_nothing_is_expected_before_anything_came(member: Forecaster) -> None:
    assert member.at(60.0) is None


@pytest.mark.parametrize("member", [Level(60.0), Trend(60.0)])
def test_a_steady_rate_goes_on(member: Forecaster) -> None:
    feed(member, [7.0] * 50)
    assert member.at(0.0) == pytest.approx(7.0)
    assert member.at(600.0) == pytest.approx(7.0)


def test_the_first_intervals_count_the_same() -> None:
    level = Level(1e9)
    feed(level, [2.0, 4.0, 9.0])
    assert level.at(60.0) == pytest.approx(5.0)


def test_a_level_forgets_with_its_time_constant() -> None:
    level = Level(5.0)
    feed(level, [10.0] * 100 + [0.0] * 3)
    assert level.at(0.0) == pytest.approx(10 * exp(-3), rel=1e-6)


def test_a_trend_carries_a_ramp_on() -> None:
    trend = Trend(20.0)
    feed(trend, [0.2 * i for i in range(200)])
    # The last rate is 39.8, and 0.04 more each second.
    now, later = trend.at(0.0) or 0.0, trend.at(100.0) or 0.0
    assert now == pytest.approx(39.8, abs=0.6)
    assert later - now == pytest.approx(4.0, rel=0.15)  # intervals of 5 s are long beside 20 s


def test_a_trend_needs_two_time_constants_and_is_never_below_zero() -> None:
    trend = Trend(20.0)
    feed(trend, [10.0 - i for i in range(7)])
    assert trend.at(1000.0) == trend.at(0.0)
    feed(trend, [max(3.0 - i, 0) for i in range(5)])
    assert trend.at(1000.0) == 0.0


def test_intervals_may_differ_in_length() -> None:
    short, long = Level(60.0), Level(60.0)
    feed(short, [4.0] * 100 + [8.0] * 10, interval_s=5.0)
    feed(long, [4.0] * 10 + [8.0], interval_s=50.0)
    assert short.at(0.0) == pytest.approx(long.at(0.0), rel=1e-6)
