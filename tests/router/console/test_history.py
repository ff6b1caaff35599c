from __future__ import annotations

from shoal.router.console.history import INTERVAL_S, NUM_COARSE, NUM_FINE, History
from shoal.router.console.samples import ALL, span_of
from tests.router.console.builders import sample


def filled(number: int) -> History:
    history = History()
    for turn in range(1, number + 1):
        history.add(sample(turn * INTERVAL_S, INTERVAL_S, requests={("m", "200"): 1}))
    return history


def test_the_newest_are_kept_one_by_one_and_older_ones_are_joined() -> None:
    history = filled(NUM_FINE + 1)
    samples = history.all()
    assert len(samples) == NUM_FINE + 1 - 5 + 1
    assert samples[0].span_s == 5 * INTERVAL_S
    assert {each.span_s for each in samples[1:]} == {INTERVAL_S}
    assert sum(each.models[ALL].requests for each in samples) == NUM_FINE + 1  # nothing is lost


def test_it_is_bounded_and_in_order() -> None:
    history = filled(10 * (NUM_FINE + NUM_COARSE))
    samples = history.all()
    assert len(samples) <= NUM_FINE + NUM_COARSE
    times = [each.time for each in samples]
    assert times == sorted(times)
    assert 3500 < span_of(samples) <= 3600


def test_the_latest_cover_what_is_asked_for() -> None:
    history = filled(20)
    assert [each.time for each in history.latest(0.1)] == [40.0]
    assert [each.time for each in history.latest(5.0)] == [36.0, 38.0, 40.0]
    assert len(history.latest(1e9)) == 20
    assert History().latest(10.0) == []
