from __future__ import annotations

from math import sqrt

import pytest

from shoal.autoscaler.core.caution import MAX_CAUTION, Caution
from shoal.autoscaler.core.staffing import (
    FIRST_BETA,
    MAX_BETA,
    Staffing,
    headroom,
    whole,
)


def teach(staffing: Staffing, beta: float, failing: float, *, num_requests: int = 2000) -> None:
    for _ in range(num_requests // 100):
        staffing.observe(
            beta, num_requests=100, num_in_time=100 - round(100 * failing), interval_s=1.0
        )


def test_headroom_and_replicas_are_each_others_inverse() -> None:
    staffing = Staffing(0.99)
    for load in (0.3, 1.0, 4.0, 100.0):
        assert headroom(staffing.replicas(load), load) == pytest.approx(FIRST_BETA)
    assert staffing.replicas(0.0) == 0.0
    assert staffing.replicas(4.0, caution=0.5) == pytest.approx(4 + (FIRST_BETA + 0.5) * 2)


def test_where_requests_do_well_one_replica_fewer_is_tried() -> None:
    staffing = Staffing(0.99)
    teach(staffing, 1.1, 0.0)
    assert staffing.replicas(9.0) == pytest.approx(9 + 1.1 * sqrt(9) - 1.2)


def test_a_headroom_known_to_be_bad_is_not_tried_again() -> None:
    staffing = Staffing(0.99)
    teach(staffing, 1.1, 0.0)
    teach(staffing, 0.9, 0.05)
    assert headroom(staffing.replicas(9.0), 9.0) >= 1.0


def test_where_nothing_is_good_headroom_grows_up_to_a_bound() -> None:
    staffing = Staffing(0.99)
    for beta in (1.0, 1.6, 2.6, 4.0, 4.8):
        teach(staffing, beta, 0.2)
    assert FIRST_BETA < staffing.beta <= MAX_BETA


def test_a_few_unlucky_requests_are_not_proof() -> None:
    staffing = Staffing(0.99)
    teach(staffing, 1.1, 0.0)
    staffing.observe(0.7, num_requests=200, num_in_time=198, interval_s=1.0)
    assert headroom(staffing.replicas(9.0), 9.0) < 1.0


def test_whole_replicas_forgive_rounding() -> None:
    assert [whole(x) for x in (0.0, 1.0000000001, 1.01, 2.0)] == [0, 1, 2, 2]


def test_caution_grows_below_the_objective_and_fades_above_it() -> None:
    caution = Caution(0.99)
    assert caution.share is None
    for second in range(0, 600, 5):
        caution.observe(float(second), interval_s=5.0, num_requests=100, num_in_time=90)
    grown = caution.value
    assert grown == pytest.approx(1.0, abs=0.05)
    for second in range(600, 3600, 5):
        caution.observe(float(second), interval_s=5.0, num_requests=100, num_in_time=100)
    assert caution.value < grown
    for second in range(3600, 30_000, 5):
        caution.observe(float(second), interval_s=5.0, num_requests=100, num_in_time=0)
    assert caution.value == MAX_CAUTION
