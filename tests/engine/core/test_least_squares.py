from __future__ import annotations

import random
from math import exp
from statistics import mean

import numpy as np
import pytest

from shoal.engine.core.least_squares import COMMON_VARIANCE, OWN_VARIANCE, LeastSquares, Row

TRUE: Row = (0.2, 1.0, 0.5, 1.5, 0.05)


def value_of(row: Row, *, slower: float = 1.0) -> float:
    return slower * sum(c * x for c, x in zip(TRUE, row, strict=True))


def make_rows(num_rows: int, *, seed: int = 0) -> list[Row]:
    """Rows that excite every feature, each absent from a third; values a hundredfold apart."""
    rng = random.Random(seed)

    def up_to(most: float) -> float:
        return rng.choice([0.0, rng.uniform(0, most), rng.uniform(0, most)])

    return [(32.0, 1 + up_to(64), up_to(30), up_to(500), up_to(500)) for _ in range(num_rows)]


def make_fit() -> LeastSquares:
    return LeastSquares(1.0, own_variance=100.0)


def eigenvalues(fit: LeastSquares) -> list[float]:
    return list(np.linalg.eigvalsh(np.array(fit.covariance())))


def errors(fit: LeastSquares, *, slower: float = 1.0) -> list[float]:
    """Relative, of observations that it has not seen."""
    rows = make_rows(50, seed=9)
    return [abs(fit.predict(row) / value_of(row, slower=slower) - 1) for row in rows]


def test_exact_values_give_the_coefficients() -> None:
    fit = make_fit()
    for row in make_rows(300):
        fit.observe(row, value_of(row))
    assert fit.coefficients == pytest.approx(TRUE, rel=0.01)


def test_noise_averages_out() -> None:
    fit, rng = make_fit(), random.Random(1)
    for row in make_rows(2_000):
        fit.observe(row, value_of(row) * exp(rng.gauss(0, 0.1)))
    assert max(errors(fit)) < 0.05


def test_outliers_move_little() -> None:
    """One value in twenty is ten times too large; a plain mean would be off by 45 %."""
    fit, rng = make_fit(), random.Random(2)
    for row in make_rows(2_000):
        disturbed = 10.0 if rng.random() < 0.05 else 1.0
        fit.observe(row, value_of(row) * exp(rng.gauss(0, 0.03)) * disturbed)
    assert max(errors(fit)) < 0.1


@pytest.mark.parametrize("slower", [2.0, 0.5])
@pytest.mark.parametrize("with_all_features", [True, False])
def test_when_everything_changes_every_coefficient_follows(
    slower: float, with_all_features: bool
) -> None:
    """Even those whose features do not occur: slower decodes tell of slower prefills."""
    fit = make_fit()
    for row in make_rows(1_000):
        fit.observe(row, value_of(row))
    for fixed, some, few, *others in make_rows(100, seed=1):
        row = (fixed, some, few, *(others if with_all_features else (0.0, 0.0)))
        fit.observe(row, value_of(row, slower=slower))
    assert max(errors(fit, slower=slower)) < (0.1 if with_all_features else 0.25)


def test_one_coefficient_can_change_alone() -> None:
    fit = make_fit()
    for row in make_rows(1_000):
        fit.observe(row, value_of(row))
    for row in make_rows(500, seed=1):
        fit.observe(row, value_of(row) + 3 * row[3])
    assert fit.coefficients[3] == pytest.approx(TRUE[3] + 3, rel=0.1)
    assert fit.coefficients[1] == pytest.approx(TRUE[1], rel=0.3)


def test_equal_observations_do_not_wind_up_what_they_say_nothing_of() -> None:
    fit = make_fit()
    for row in make_rows(300):
        fit.observe(row, value_of(row))
    same: Row = (32.0, 8.0, 2.0, 0.0, 0.0)
    for _ in range(30_000):  # after a million it is the same
        fit.observe(same, value_of(same))
    matrix = fit.covariance()
    for i, coefficient in enumerate(fit.coefficients):
        assert 0 < matrix[i][i] < 1.01 * (COMMON_VARIANCE + OWN_VARIANCE) * (coefficient**2 + 0.01)
    assert eigenvalues(fit)[0] > 0
    assert max(errors(fit)) < 0.02
    for row in make_rows(100, seed=1):  # and it still listens
        fit.observe(row, value_of(row, slower=2.0))
    assert mean(errors(fit, slower=2.0)) < 0.1


def test_plain_exponential_forgetting_would_wind_up() -> None:
    """What the test above guards against: the same observations, the covariance divided by a
    forgetting factor in all directions."""
    forgetting, covariance = 0.98, np.eye(2)
    x = np.array([1.0, 1.0])
    for _ in range(2_000):
        spread = covariance @ x
        covariance = covariance - np.outer(spread, spread) / (forgetting + x @ spread)
        covariance = covariance / forgetting
    assert np.trace(covariance) > 1e12


def test_what_no_observation_tells_of_moves_in_common_alone() -> None:
    fit = make_fit()
    for _ in range(500):
        fit.observe((32.0, 0.0, 0.0, 0.0, 0.0), 3.2)
    fixed, *others = fit.coefficients
    assert fixed == pytest.approx(0.1)
    assert others == pytest.approx([others[0]] * 4)
    assert 0.1 < others[0] < 1.0


def test_no_coefficient_gets_negative_and_the_others_take_over() -> None:
    """A second feature that seems to make things faster is worth nothing."""
    fit, rng = make_fit(), random.Random(3)
    for _ in range(500):
        x = rng.uniform(0, 40)
        fit.observe((32.0, x, 0.0, 0.0, 0.0), 100.0 - x)
        assert min(fit.coefficients) >= 0
    assert fit.coefficients[1] == 0.0
    assert fit.predict((32.0, 20.0, 0.0, 0.0, 0.0)) == pytest.approx(80.0, rel=0.05)
    assert eigenvalues(fit)[0] > 0


def test_the_unit_of_the_values_does_not_matter() -> None:
    seconds, microseconds = make_fit(), LeastSquares(1e6, own_variance=100.0)
    for row in make_rows(200):
        seconds.observe(row, value_of(row))
        microseconds.observe(row, value_of(row) * 1e6)
    row = make_rows(1, seed=5)[0]
    assert microseconds.predict(row) == pytest.approx(seconds.predict(row) * 1e6)
