"""Figures: found by their keys, marked where the samples are too few."""

from __future__ import annotations

import pytest

from shoal.benchmarks.report import figures
from shoal.benchmarks.report.numbers import Quantity
from tests.benchmarks.report.samples import make_compare, make_empty_run, make_run


@pytest.mark.parametrize(
    ("statistic", "count", "shaky"),
    [
        ("p99", 0, False),
        ("p99", 99, True),
        ("p99", 100, False),
        ("p95", 19, True),
        ("p95", 20, False),
        ("p90", 9, True),
        ("p90", 10, False),
        ("p50", 1, True),
        ("p50", 2, False),
        ("mean", 1, False),
        ("max", 1, False),
    ],
)
def test_percentiles_need_samples(statistic: str, count: int, shaky: bool) -> None:
    assert figures.is_shaky(statistic, count) is shaky


def test_a_figure_of_a_run_is_shaky_by_the_count_of_its_own_samples() -> None:
    run = make_run(count=12)  # 240 gaps between tokens
    assert figures.is_shaky_in(run, "ttft_p99_s")
    assert not figures.is_shaky_in(run, "itl_p99_s")
    assert not figures.is_shaky_in(run, "output_tokens_per_s")


def test_every_ratio_and_interval_is_a_figure_with_a_value_and_a_direction() -> None:
    compare = make_compare()
    for key in (*compare.ratios, *compare.a.intervals):
        figure = figures.figure(key)
        assert figures.value(compare.a, key) is not None
        assert figure.higher_is_better is not key.startswith(("ttft", "itl", "tpot", "e2e"))


def test_a_key_from_the_future_is_shown_under_its_own_name() -> None:
    figure = figures.figure("joules_per_token")
    assert (figure.label, figure.quantity) == ("joules per token", Quantity.NUMBER)
    assert figures.value(make_run(), "joules_per_token") is None
    assert figures.value(make_run(), "name") is None  # not a number
    assert figures.better(figure, 2.0) is None


def test_better_knows_the_direction() -> None:
    assert figures.better(figures.figure("ttft_p50_s"), 0.9) is True
    assert figures.better(figures.figure("ttft_p50_s"), 1.1) is False
    assert figures.better(figures.figure("requests_per_s"), 1.1) is True
    assert figures.better(figures.figure("requests_per_s"), 1.0) is None


def test_a_row_for_what_any_run_has() -> None:
    keys = [figure.key for figure in figures.side_by_side([make_empty_run()])]
    assert keys == ["output_tokens_per_s", "total_tokens_per_s", "requests_per_s"]
    keys = [figure.key for figure in figures.side_by_side([make_empty_run(), make_run()])]
    assert "goodput_attainment" in keys
    assert "ttft_p99_s" in keys


def test_units_come_with_the_value_only() -> None:
    figure = figures.figure("output_tokens_per_s")
    assert figure.text(12.0) == "12.0 tok/s"
    assert figure.text(None) == "–"
