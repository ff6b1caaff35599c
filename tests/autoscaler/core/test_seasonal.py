"""Known series, exact numbers: what came a period ago, and what a slot has above the rest."""

from __future__ import annotations

import pytest

from shoal.autoscaler.core.seasonal import MAX_SLOTS, HoltWinters, SeasonalNaive
from shoal.autoscaler.core.smoothing import Forecaster

PERIOD_S = 120.0
LEVELS = [2.0, 6.0, 10.0, 6.0]
"""Of the four quarters of a period."""


def feed(
    member: Forecaster, seconds: float, *, start_s: float = 0.0, interval_s: float = 5.0,
    grows: float = 0.0,
) -> float:  # fmt: skip
    """`grows`: requests per second, each period."""
    now = start_s
    while now < start_s + seconds:
        middle = now + interval_s / 2
        rate = LEVELS[int(middle % PERIOD_S / PERIOD_S * 4)] + grows * (middle / PERIOD_S)
        now += interval_s
        member.add(now, interval_s, rate * interval_s)
    return now


@pytest.mark.parametrize("kind", [SeasonalNaive, HoltWinters])
def test_nothing_is_known_before_a_period_is_over(
    kind: type[SeasonalNaive] | type[HoltWinters],
) -> None:
    member = kind(PERIOD_S)
    feed(member, PERIOD_S)
    assert member.at(30.0) is None
    feed(member, 5.0, start_s=PERIOD_S)
    assert member.at(30.0) is not None


@pytest.mark.parametrize("kind", [SeasonalNaive, HoltWinters])
@pytest.mark.parametrize(("ahead_s", "rate"), [(15.0, 2.0), (45.0, 6.0), (75.0, 10.0),
                                               (105.0, 6.0), (135.0, 2.0)])  # fmt: skip
def test_what_repeats_is_foreseen(
    kind: type[SeasonalNaive] | type[HoltWinters], ahead_s: float, rate: float
) -> None:
    member = kind(PERIOD_S)
    now = feed(member, 20 * PERIOD_S)
    assert now % PERIOD_S == 0
    assert member.at(ahead_s) == pytest.approx(rate, abs=0.05)


def test_naive_expects_exactly_what_came_a_period_ago() -> None:
    naive = SeasonalNaive(PERIOD_S)
    feed(naive, 3 * PERIOD_S + 5.0, grows=1.0)
    # 75 s on is 80 s into the period, between the slots 70 to 80 s and 80 to 90 s of the last one.
    before = [10 + (2 * PERIOD_S + s) / PERIOD_S for s in (75.0, 85.0)]
    assert naive.at(75.0) == pytest.approx(sum(before) / 2)


def test_holt_winters_adds_growth_to_the_season() -> None:
    naive, winters = SeasonalNaive(PERIOD_S), HoltWinters(PERIOD_S)
    for member in (naive, winters):
        feed(member, 20 * PERIOD_S, grows=1.0)
    truth = 10.0 + 20 + 75 / PERIOD_S
    assert abs((winters.at(75.0) or 0) - truth) < 0.25
    assert abs((naive.at(75.0) or 0) - truth) == pytest.approx(1.0, abs=0.1)


def test_memory_is_bounded_however_long_the_period() -> None:
    week = SeasonalNaive(7 * 86400.0)
    assert len(week._rates) == MAX_SLOTS


def test_a_rate_is_never_below_zero() -> None:
    winters = HoltWinters(PERIOD_S)
    now = feed(winters, 2 * PERIOD_S)
    for step in range(30):
        winters.add(now + 5.0 * (step + 1), 5.0, 0.0)
    assert min(winters.at(h) or 0.0 for h in range(0, 120, 10)) >= 0.0
