from __future__ import annotations

from shoal.autoscaler.core.window import MaxWindow


def test_the_largest_value_is_forgotten_when_it_is_old() -> None:
    window = MaxWindow(30.0)
    steps = [(0, 5, 5), (10, 3, 5), (20, 4, 5), (29, 1, 5), (31, 1, 4), (51, 0, 1), (90, 0, 0)]
    for now, value, largest in steps:
        assert window.add(float(now), float(value)) == largest
    assert window.seconds(95.0) == 95.0


def test_before_the_first_value_no_time_has_passed() -> None:
    assert MaxWindow(30.0).seconds(100.0) == 0.0
