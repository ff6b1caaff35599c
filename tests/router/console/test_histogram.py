from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.router.console.histogram import percentile, share_within

EDGES = (0.1, 0.2, 0.4)


@pytest.mark.parametrize(
    ("counts", "q", "expected"),
    [
        ([0, 0, 0, 0], 0.5, None),
        ([10, 0, 0, 0], 0.5, 0.05),  # half of the first bucket
        ([0, 10, 0, 0], 0.5, 0.15),
        ([1, 1, 2, 0], 0.5, 0.2),
        ([1, 1, 2, 0], 0.75, 0.3),
        ([0, 0, 0, 5], 0.5, 0.4),  # beyond the last edge nothing is known
        ([9, 0, 0, 1], 0.99, 0.4),
        ([9, 0, 0, 1], 1.0, 0.4),
        ([0, 0, 4, 0], 0.0, 0.2),
    ],
)
def test_percentiles_are_interpolated(
    counts: list[float], q: float, expected: float | None
) -> None:
    found = percentile(counts, EDGES, q)
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("counts", "bound", "expected"),
    [
        ([0, 0, 0, 0], 1.0, None),
        ([1, 1, 1, 1], 0.2, 0.5),  # at an edge it is exact
        ([1, 1, 2, 0], 0.3, 0.75),
        ([4, 0, 0, 0], 0.025, 0.25),
        ([0, 0, 0, 4], 9.0, 0.0),  # they may have taken longer than any bound
        ([1, 1, 1, 1], 0.0, 0.0),
    ],
)
def test_shares_within_a_bound(counts: list[float], bound: float, expected: float | None) -> None:
    found = share_within(counts, EDGES, bound)
    assert found == (None if expected is None else pytest.approx(expected))


@given(st.lists(st.integers(0, 50), min_size=4, max_size=4), st.floats(0.05, 1.0))
def test_one_is_the_other_backwards(counts: list[int], q: float) -> None:
    if counts[-1] or not sum(counts):
        return
    value = percentile(counts, EDGES, q)
    assert value is not None
    share = share_within(counts, EDGES, value)
    assert share is not None
    assert share >= q - 1e-9
