from __future__ import annotations

from random import Random

import pytest

from shoal.autoscaler.core.forecast import MEMORY_S, PRIOR_SPREAD, ForecastErrors


def settle(errors: ForecastErrors, counts: list[float], *, expected: float, start_s: float = 0.0,
           interval_s: float = 5.0) -> None:  # fmt: skip
    for step, count in enumerate(counts):
        now = start_s + (step + 1) * interval_s
        errors.expect(now, expected)
        errors.came(now, interval_s, count)


def test_what_is_not_known_may_be_bad_and_what_is_mere_chance_is_one() -> None:
    assert ForecastErrors(0.9).spread == pytest.approx(PRIOR_SPREAD)
    rng = Random(3)
    poisson = [sum(rng.random() < 0.05 for _ in range(1000)) for _ in range(300)]
    errors = ForecastErrors(0.9)
    settle(errors, poisson, expected=10.0)
    assert errors.spread == pytest.approx(1.1, abs=0.12)


def test_so_many_errors_stay_within_the_band() -> None:
    # Of 100 errors, 0 to 99 in units of chance, nine tenths are at most 90.
    errors = ForecastErrors(0.9)
    settle(errors, [100 + 10 * k for k in range(100)], expected=20.0)
    assert errors.spread == pytest.approx((20 * 2.5 * 1.2816 + 100 * 90) / 120 / 1.2816, rel=1e-3)


def test_one_jump_does_not_widen_it_but_recurring_ones_do() -> None:
    once, often = ForecastErrors(0.9), ForecastErrors(0.9)
    settle(once, [50.0] * 200 + [150.0] * 10, expected=10.0)
    settle(often, ([50.0] * 16 + [150.0] * 4) * 10, expected=10.0)
    assert once.spread < 1.3
    assert often.spread > 5.0


def test_errors_are_forgotten() -> None:
    errors = ForecastErrors(0.9)
    settle(errors, [200.0] * 50, expected=10.0)
    assert errors.spread > 5.0
    settle(errors, [50.0] * 400, expected=10.0, start_s=MEMORY_S)
    assert errors.spread == 1.0


def test_too_much_expected_is_no_reason_for_more() -> None:
    errors = ForecastErrors(0.9)
    settle(errors, [0.0] * 100, expected=10.0)
    assert errors.spread == 1.0
