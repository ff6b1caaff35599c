from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.router.core.window_count import WindowCount


def test_counts_leave_after_the_window() -> None:
    window = WindowCount(10.0)
    window.add(0.5)
    window.add(5.0, 2)
    assert window.count(9.9) == 3
    assert window.count(10.0) == 2
    assert window.count(15.0) == 0


def test_a_long_silence_empties_it() -> None:
    window = WindowCount(10.0)
    window.add(3.0, 7)
    assert window.count(1_000.0) == 0


def test_a_clock_that_slips_back_counts_now() -> None:
    window = WindowCount(10.0)
    window.add(5.0)
    window.add(4.9)
    assert window.count(13.9) == 2


def test_clear() -> None:
    window = WindowCount(10.0)
    window.add(1.0)
    window.clear()
    assert window.count(1.0) == 0


@pytest.mark.parametrize("window_s", [0.0, -1.0])
def test_a_window_has_a_length(window_s: float) -> None:
    with pytest.raises(ValueError, match="window_s"):
        WindowCount(window_s)


@given(st.lists(st.tuples(st.floats(0, 4), st.integers(0, 5)), max_size=60))
def test_it_covers_nine_to_ten_tenths_of_the_window(events: list[tuple[float, int]]) -> None:
    window, now = WindowCount(10.0), 0.0
    history: deque[tuple[float, int]] = deque()
    for gap, amount in events:
        now += gap
        window.add(now, amount)
        history.append((now, amount))
        at_least = sum(n for when, n in history if when > now - 9.0 + 1e-6)
        at_most = sum(n for when, n in history if when > now - 10.0 - 1e-6)
        assert at_least <= window.count(now) <= at_most
