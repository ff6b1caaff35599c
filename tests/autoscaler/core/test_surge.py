from __future__ import annotations

import pytest

from shoal.autoscaler.core.surge import LASTS_S, Surge


def run(surge: Surge, counts: list[float], *, expected: float = 4.0, spread: float = 1.0,
        start_s: float = 0.0) -> list[bool]:  # fmt: skip
    states = []
    for step, count in enumerate(counts):
        now = start_s + 5.0 * (step + 1)
        surge.add(now, 5.0, count, expected=expected, spread=spread)
        states.append(surge.is_on(now))
    return states


def test_chance_is_no_surge() -> None:
    assert not any(run(Surge(), [20, 28, 14, 25, 19, 30, 12]))


@pytest.mark.parametrize("count", [60.0, 45.0])
def test_a_jump_is_seen_within_two_intervals(count: float) -> None:
    states = run(Surge(), [20, 20, 20, 20, count, count])
    assert states[:4] == [False] * 4
    assert states[5]


def test_it_ends_when_the_expected_has_followed() -> None:
    surge = Surge()
    run(surge, [20, 20, 60])
    assert surge.is_on(15.0 + LASTS_S - 1)
    later = run(surge, [60.0] * 30, expected=12.0, start_s=15.0)
    assert later[0]
    assert not later[-1]


def test_where_forecasts_are_bad_a_jump_must_be_larger() -> None:
    assert run(Surge(), [60.0, 60.0])[-1]
    assert not run(Surge(), [60.0, 60.0], spread=4.0)[-1]


def test_less_than_expected_is_none() -> None:
    assert not any(run(Surge(), [0.0] * 20, expected=40.0))
