from __future__ import annotations

import pytest

from shoal.router.core.drain_rate import UNKNOWN_RETRY_S, DrainRate


def test_unknown_before_two_departures() -> None:
    rate = DrainRate()
    assert rate.per_s(0.0) == 0.0
    assert rate.retry_after_s(100, 0.0) == UNKNOWN_RETRY_S
    rate.on_departure(1.0)
    assert rate.per_s(1.0) == 0.0
    assert rate.per_s(2.0) == 0.0


@pytest.mark.parametrize("departures", [20, 80, 800])
def test_a_steady_rate_is_found_soon_and_kept(departures: int) -> None:
    rate = DrainRate()
    for i in range(departures):
        rate.on_departure(100.0 + i / 8)
    now = 100.0 + departures / 8
    assert rate.per_s(now) == pytest.approx(8.0, rel=0.06)
    assert rate.retry_after_s(120, now) == pytest.approx(15.0, rel=0.06)


def test_a_new_rate_is_believed_within_half_a_minute() -> None:
    rate = DrainRate()
    for i in range(800):
        rate.on_departure(i / 8)
    for i in range(60):
        rate.on_departure(100 + i / 2)
    assert rate.per_s(130.0) == pytest.approx(2.0, rel=0.2)


def test_retry_after_is_between_one_second_and_one_minute() -> None:
    rate = DrainRate()
    for i in range(50):
        rate.on_departure(i / 10)
    assert rate.retry_after_s(1, 5.0) == 1.0
    assert rate.retry_after_s(1_000_000, 5.0) == 60.0
    assert rate.retry_after_s(10, 500.0) == 60.0  # nothing has left for long
