from __future__ import annotations

import math

import numpy as np
import pytest

from shoal.benchmarks.measure.statistics import distribution, interval, ratio


def test_a_distribution_interpolates_as_numpy_does() -> None:
    values = [float(v) for v in range(1, 12)]
    found = distribution(values)
    assert (found.count, found.min, found.max, found.mean, found.p50) == (11, 1.0, 11.0, 6.0, 6.0)
    assert found.p90 == np.quantile(values, 0.9)
    assert found.p99 == np.quantile(values, 0.99)
    assert len(found.quantiles) == 101
    assert found.quantiles == sorted(found.quantiles)


def test_nothing_has_a_count_and_nothing_else() -> None:
    found = distribution([])
    assert found.count == 0
    assert found.p50 is None
    assert found.quantiles == []


def test_an_interval_is_students() -> None:
    # mean 3, sample deviation sqrt(2.5), t(4) = 2.776: 3 +- 2.776 * sqrt(2.5 / 5)
    found = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.mean == 3.0
    assert found.low == pytest.approx(3 - 2.776 * math.sqrt(0.5))
    assert found.high == pytest.approx(3 + 2.776 * math.sqrt(0.5))
    assert found.count == 5


def test_one_repeat_has_no_interval() -> None:
    found = interval([2.0])
    assert (found.mean, found.low, found.high, found.count) == (2.0, None, None, 1)


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        interval([])


def test_many_repeats_use_the_normal_point() -> None:
    found = interval([0.0, 1.0] * 40)
    deviation = math.sqrt(0.25 * 80 / 79)
    assert found.high == pytest.approx(0.5 + 1.96 * deviation / math.sqrt(80))


def test_a_ratio_and_its_inverse_are_inverse() -> None:
    pairs = [(2.0, 1.0), (3.0, 1.0), (2.5, 1.0)]
    there, back = ratio(pairs), ratio([(b, a) for a, b in pairs])
    assert there is not None
    assert back is not None
    assert there.geometric_mean == pytest.approx(1 / back.geometric_mean)
    assert there.low == pytest.approx(1 / (back.high or 0))
    assert there.median == 2.5
    assert there.pairs == [2.0, 3.0, 2.5]


def test_pairs_without_a_positive_value_are_left_out() -> None:
    assert ratio([(0.0, 1.0), (1.0, 0.0)]) is None
    found = ratio([(0.0, 1.0), (4.0, 2.0)])
    assert found is not None
    assert (found.pairs, found.low) == ([2.0], None)
