from __future__ import annotations

from shoal.autoscaler.core.window import MaxWindow, RecentCounts


def test_the_largest_value_is_forgotten_when_it_is_old() -> None:
    window = MaxWindow(30.0)
    steps = [(0, 5, 5), (10, 3, 5), (20, 4, 5), (29, 1, 5), (31, 1, 4), (51, 0, 1), (90, 0, 0)]
    for now, value, largest in steps:
        assert window.add(float(now), float(value)) == largest
    assert window.seconds(95.0) == 95.0


def test_before_the_first_value_no_time_has_passed() -> None:
    assert MaxWindow(30.0).seconds(100.0) == 0.0


def test_recent_counts_are_those_that_fill_the_span_and_one_at_the_least() -> None:
    recent = RecentCounts(20.0)
    for step in range(1, 9):
        recent.add(step * 5.0, 5.0, step)
    assert recent.sums(20.0) == (20.0, 8 + 7 + 6 + 5)
    assert recent.sums(12.0) == (10.0, 8 + 7)
    assert recent.sums(1.0) == (5.0, 8)
    assert recent.sums(100.0) == recent.sums(20.0)  # older ones are gone
    assert list(recent.newest(10.0)) == [(5.0, 8), (5.0, 7)]
    recent.add(70.0, 30.0, 9.0)
    assert recent.sums(20.0) == (30.0, 9.0)
