"""Three significant digits, and no more than is true."""

from __future__ import annotations

import math

import pytest

from shoal.benchmarks.report import numbers
from shoal.benchmarks.report.numbers import Quantity, unit_for


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
        (0, "0 s"),
        (5e-8, "0.0500 µs"),
        (850e-6, "850 µs"),
        (0.00099960, "1.00 ms"),  # not 1,000 µs
        (0.0123, "12.3 ms"),
        (0.9996, "1.00 s"),
        (1.2, "1.20 s"),
        (9.996, "10.0 s"),
        (1234.5, "1,234 s"),
        (-0.0123, "-12.3 ms"),
    ],
)
def test_seconds(value: float | None, text: str) -> None:
    assert numbers.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12.0, "12.0 s"),
        (119.4, "119 s"),
        (119.7, "2 min 00 s"),
        (725, "12 min 05 s"),
        (7400, "2 h 03 min"),
        (None, "–"),
    ],
)
def test_duration(value: float | None, text: str) -> None:
    assert numbers.duration(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0%"),
        (0.5, "50%"),
        (0.975, "97.5%"),
        (0.9996, "99.96%"),
        (0.99996, "99.996%"),
        (0.9999999, "99.999%"),
        (1.0, "100%"),
        (None, "–"),
    ],
)
def test_only_all_is_written_as_100_percent(value: float | None, text: str) -> None:
    assert numbers.share(value) == text


def test_rates_sizes_ratios_and_counts() -> None:
    assert numbers.rate(1234.4, "tok") == "1,234 tok/s"
    assert numbers.rate(None, "tok") == "–"
    assert numbers.size(1.5 * 2**30) == "1.50 GiB"
    assert numbers.size(100) == "100 B"
    assert numbers.ratio(0.7969) == "0.797×"
    assert numbers.count(1234567) == "1,234,567"
    assert numbers.number(1.2e-9) == "1.20e-09"


def test_neighbours_share_the_unit_of_their_median() -> None:
    unit = unit_for(Quantity.SECONDS, [0.01, 0.2, 0.3, 1.5, None])
    assert [unit.number(v) for v in (0.01, 1.5, None)] == ["10.0", "1,500", "–"]
    assert unit.text(0.2) == "200 ms"
    assert unit_for(Quantity.SECONDS, [None, 0.0]).symbol == "s"
