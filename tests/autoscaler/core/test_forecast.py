from __future__ import annotations

from math import sqrt

import pytest

from shoal.autoscaler.core.forecast import MEMORY_S, PRIOR_ERROR, ForecastErrors


def test_before_anything_came_there_is_a_prior_margin() -> None:
    assert ForecastErrors().margin(8.0, 0.9) == pytest.approx(PRIOR_ERROR * 3)


def settle(errors: ForecastErrors, misses: list[float], *, expected: float = 8.0) -> None:
    for second, miss in enumerate(misses):
        errors.expect(float(second), expected)
        errors.came(float(second), expected + miss)


def test_the_margin_is_what_so_many_forecasts_stayed_below() -> None:
    errors = ForecastErrors()
    settle(errors, [0.0] * 900 + [6.0] * 100)
    assert errors.margin(8.0, 0.85) == pytest.approx(0.0, abs=0.1)
    assert errors.margin(8.0, 0.95) == pytest.approx(6.0, rel=0.1)
    assert errors.margin(0.0, 0.95) == pytest.approx(6.0 / sqrt(9), rel=0.1)


def test_forecasts_that_were_too_high_give_no_margin_below_zero() -> None:
    errors = ForecastErrors()
    settle(errors, [-5.0] * 1000)
    assert errors.margin(8.0, 0.9) == 0.0


def test_old_errors_are_forgotten() -> None:
    errors = ForecastErrors()
    settle(errors, [30.0] * 500)
    errors.came(MEMORY_S * 2, 0.0)
    assert errors.margin(8.0, 0.9) == pytest.approx(PRIOR_ERROR * 3)


def test_a_forecast_is_judged_when_its_time_comes_and_not_before() -> None:
    errors = ForecastErrors()
    for _ in range(1000):
        errors.expect(60.0, 1.0)
    errors.came(59.0, 100.0)
    assert errors.margin(1.0, 0.9) == pytest.approx(PRIOR_ERROR * sqrt(2))
    errors.came(60.0, 100.0)
    assert errors.margin(1.0, 0.9) > 90.0
