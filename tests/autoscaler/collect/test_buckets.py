from __future__ import annotations

from math import inf

import pytest

from shoal.autoscaler.collect.buckets import counts_of, in_time, in_time_at_best
from shoal.metrics import Sample


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (1.0, 60.0),  # at an edge: exact
        (2.0, 60.0 + 30.0 * (2.0 - 1.0) / (2.5 - 1.0)),
        (0.25, 10.0),
        (0.5, 20.0),  # in the first bucket, which begins at 0
        (100.0, 90.0),  # beyond the last edge: those of the last bucket are late
        (inf, 100.0),
    ],
)
def test_how_many_kept_the_limit(limit: float, expected: float) -> None:
    amounts = {"ttft<=0.5": 20.0, "ttft<=1.0": 60.0, "ttft<=2.5": 90.0, "ttft<=inf": 100.0}
    assert in_time({**amounts, "arrivals": 7.0}, limit) == (100.0, pytest.approx(expected))


@pytest.mark.parametrize(
    ("limit", "expected"), [(1.0, 60.0), (1.01, 90.0), (2.0, 90.0), (0.2, 20.0), (100.0, 90.0)]
)
def test_at_best_the_whole_bucket_kept_it(limit: float, expected: float) -> None:
    amounts = {"ttft<=0.5": 20.0, "ttft<=1.0": 60.0, "ttft<=2.5": 90.0, "ttft<=inf": 100.0}
    assert in_time_at_best(amounts, limit) == (100.0, expected)


def test_nothing_came() -> None:
    assert in_time({"arrivals": 3.0}, 1.0) == (0.0, 0.0)
    assert in_time_at_best({"arrivals": 3.0}, 1.0) == (0.0, 0.0)
    assert in_time_at_best({"ttft<=inf": 3.0}, 1.0) == (3.0, 0.0)


def test_label_sets_add_up_and_what_is_no_bucket_is_left_out() -> None:
    samples = [
        Sample("t", {"le": "0.5", "engine": "0"}, 1.0),
        Sample("t", {"le": "0.50", "engine": "1"}, 2.0),
        Sample("t", {"le": "+Inf"}, 4.0),
        Sample("t", {"le": "x"}, 8.0),
        Sample("t", {}, 16.0),
    ]
    assert counts_of(samples) == {"ttft<=0.5": 3.0, "ttft<=inf": 4.0}
