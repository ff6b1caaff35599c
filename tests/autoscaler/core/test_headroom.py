from __future__ import annotations

import pytest

from shoal.autoscaler.core.headroom import (
    FIRST_BETA,
    FREE_SPREAD,
    LEAST_BETA,
    MOST_BETA,
    MOST_MISSED,
    PER_MINUTE,
    SPENT,
    Headroom,
    whole,
)


def minutes(headroom: Headroom, number: int, *, missed: float, num_requests: int = 1000) -> None:
    for _ in range(number * 12):
        in_time = round(num_requests * (1 - missed))
        headroom.observe(interval_s=5.0, num_requests=num_requests, num_in_time=in_time)


def test_headroom_grows_with_the_root_of_the_load() -> None:
    headroom = Headroom(0.99)
    assert headroom.replicas(4.0) == pytest.approx(4 + 2 * FIRST_BETA)
    assert headroom.replicas(100.0) == pytest.approx(100 + 10 * FIRST_BETA)
    assert headroom.replicas(0.0) == 0.0


def test_wrong_forecasts_widen_it() -> None:
    headroom = Headroom(0.99)
    assert headroom.replicas(4.0, spread=FREE_SPREAD) == headroom.replicas(4.0)
    assert headroom.replicas(4.0, spread=3 * FREE_SPREAD) == pytest.approx(4 + 6 * FIRST_BETA)


@pytest.mark.parametrize(
    ("attainment", "missed", "move"),
    [(0.99, 0.0, -SPENT), (0.99, 0.01 * SPENT, 0.0), (0.99, 0.02, 2 - SPENT),
     (0.99, 0.5, MOST_MISSED - SPENT), (0.9, 0.0, -SPENT), (0.9, 0.1 * SPENT, 0.0),
     (0.9, 0.2, 2 - SPENT)],
)  # fmt: skip
def test_it_moves_by_what_is_missed_beyond_what_is_forgiven(
    attainment: float, missed: float, move: float
) -> None:
    headroom = Headroom(attainment)
    minutes(headroom, 1, missed=missed)
    assert headroom.beta - FIRST_BETA == pytest.approx(move * PER_MINUTE)


def test_it_stays_within_bounds() -> None:
    headroom = Headroom(0.99)
    minutes(headroom, 60, missed=1.0)
    assert headroom.beta == MOST_BETA
    minutes(headroom, 600, missed=0.0)
    assert headroom.beta == LEAST_BETA


def test_busy_intervals_count_more_than_quiet_ones() -> None:
    headroom = Headroom(0.99)
    minutes(headroom, 5, missed=0.009)
    settled = headroom.beta
    headroom.observe(interval_s=5.0, num_requests=10, num_in_time=0)
    quiet = headroom.beta - settled
    headroom.observe(interval_s=5.0, num_requests=1000, num_in_time=0)
    assert headroom.beta - settled - quiet > 50 * quiet > 0


def test_nobody_judged_teaches_nothing() -> None:
    headroom = Headroom(0.99)
    headroom.observe(interval_s=5.0, num_requests=0, num_in_time=0)
    assert headroom.beta == FIRST_BETA


def test_a_whole_number_forgives_rounding_errors() -> None:
    assert [whole(x) for x in (0.0, 1.0, 1.0000001, 1.001, 6.3)] == [0, 1, 1, 2, 7]
