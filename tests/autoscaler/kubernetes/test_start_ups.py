from __future__ import annotations

from datetime import timedelta

from shoal.autoscaler.kubernetes.start_ups import StartUps, Unit
from tests.autoscaler.kubernetes.objects import START


def unit(uid: str, ready_after: float | None) -> Unit:
    return uid, START, None if ready_after is None else START + timedelta(seconds=ready_after)


def test_each_replica_is_told_once_when_it_has_become_ready() -> None:
    start_ups = StartUps()
    assert start_ups.note([unit("a", None)]) == ()
    assert start_ups.note([unit("a", 40.0), unit("b", None)]) == (40.0,)
    assert start_ups.note([unit("a", 40.0), unit("b", 55.0)]) == (55.0,)
    assert start_ups.note([unit("a", 40.0), unit("b", 55.0)]) == ()


def test_those_that_were_ready_before_us_teach_nothing() -> None:
    start_ups = StartUps()
    assert start_ups.note([unit("a", 40.0)]) == ()
    assert start_ups.note([unit("a", 40.0), unit("b", 50.0)]) == (50.0,)


def test_ready_again_is_no_start() -> None:
    start_ups = StartUps()
    for ready_after, told in ((None, ()), (40.0, (40.0,)), (None, ()), (900.0, ())):
        assert start_ups.note([unit("a", ready_after)]) == told


def test_times_of_clocks_that_differ_are_left_out() -> None:
    start_ups = StartUps()
    start_ups.note([])
    assert start_ups.note([unit("a", -3.0), unit("b", 90_000.0), unit("c", 5.0)]) == (5.0,)


def test_the_gone_are_forgotten() -> None:
    start_ups = StartUps()
    start_ups.note([])
    start_ups.note([unit("a", 5.0)])
    start_ups.note([])
    assert start_ups.note([unit("a", 7.0)]) == (7.0,)
