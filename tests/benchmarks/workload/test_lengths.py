"""Lengths and pauses: the grammar, and that draws have the distribution that was asked for."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.benchmarks.workload.lengths import (
    Empirical,
    Fixed,
    Lengths,
    Quantiles,
    Uniform,
    parse_lengths,
    parse_pauses,
    read_column,
)
from shoal.errors import ConfigError


def draws(lengths: Lengths, count: int = 4000) -> list[int]:
    rng = Random(1)
    return [lengths.sample(rng) for _ in range(count)]


def test_a_number_is_always_that_number() -> None:
    assert parse_lengths("128") == Fixed(128)
    assert set(draws(Fixed(128), 10)) == {128}
    assert Fixed(128).mean == 128


def test_uniform_reaches_both_ends_and_nothing_beyond() -> None:
    lengths = parse_lengths("uniform:3-6")
    assert lengths == Uniform(3, 6)
    assert set(draws(lengths)) == {3, 4, 5, 6}
    assert lengths.mean == 4.5
    assert statistics.mean(draws(lengths)) == pytest.approx(4.5, abs=0.1)


def test_lognormal_has_its_mean_and_median() -> None:
    lengths = parse_lengths("lognormal:mean=512,sigma=1.0")
    values = draws(lengths, 20_000)
    assert lengths.mean == 512
    assert statistics.mean(values) == pytest.approx(512, rel=0.05)
    assert statistics.median(values) == pytest.approx(311, rel=0.05)  # as the docstring says
    assert sorted(values)[19_000] == pytest.approx(1609, rel=0.08)
    assert min(values) >= 1


def test_lognormal_is_cut_at_both_ends() -> None:
    values = draws(parse_lengths("lognormal:mean=100,sigma=1,min=50,max=200"))
    assert (min(values), max(values)) == (50, 200)


def test_lognormal_without_spread_is_its_mean() -> None:
    assert set(draws(parse_lengths("lognormal:mean=100,sigma=0"), 10)) == {100}


def test_a_fraction_as_the_lower_end_never_makes_a_length_of_zero() -> None:
    assert min(draws(parse_lengths("lognormal:mean=1.2,sigma=2,min=1.2"))) >= 1


@pytest.mark.parametrize(
    "text",
    [
        "", "0", "-5", "1.5", "ten", "nan", "inf", "uniform", "uniform:", "uniform:5",
        "uniform:0-5", "uniform:6-5", "uniform:1.5-3", "uniform:1-5-9", "uniform:-5-9",
        "lognormal", "lognormal:", "lognormal:mean=5", "lognormal:sigma=1",
        "lognormal:mean=0,sigma=1", "lognormal:mean=-1,sigma=1", "lognormal:mean=5,sigma=-1",
        "lognormal:mean=nan,sigma=1", "lognormal:mean=inf,sigma=1", "lognormal:mean=5,sigma=nan",
        "lognormal:mean=5,sigma=1,low=3", "lognormal:mean=5,sigma=1,min=0",
        "lognormal:mean=5,sigma=1,min=9,max=8", "lognormal:mean=5,sigma=1,max=nan",
        "lognormal:mean=5,sigma", "lognormal:mean=5,,sigma=1", "zipf:3",
    ],
)  # fmt: skip
def test_other_lengths_are_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a length of at least 1; give a number \(128\)"):
        parse_lengths(text)


def test_observed_lengths_from_csv_and_jsonl(tmp_path: Path) -> None:
    csv_file = tmp_path / "seen.csv"
    csv_file.write_text("num_prefill_tokens,num_decode_tokens\n10,1\n20,2\n60,3.0\n")
    jsonl_file = tmp_path / "seen.jsonl"
    jsonl_file.write_text('{"n": 7}\n\n{"n": 9}\n')
    lengths = parse_lengths(f"file:{csv_file}:num_prefill_tokens")
    assert lengths == Empirical([10, 20, 60])
    assert lengths.mean == 30
    assert set(draws(lengths)) == {10, 20, 60}
    assert statistics.mean(draws(lengths)) == pytest.approx(30, abs=2)
    assert read_column(csv_file, "num_decode_tokens") == [1, 2, 3]
    assert read_column(jsonl_file, "n") == [7, 9]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "n,m\n1,2\n", "line 2: there is no column x; it has: n, m"),
        ("a.csv", "x\n5\nmany\n", "line 3, column x: 'many' is not a number"),
        ("a.csv", "x\n5\n0\n", "line 3, column x: '0' is below 1"),
        ("a.csv", "x\n5\nnan\n", "line 3, column x: 'nan' is not a number"),
        ("a.csv", "x\n5\ninf\n", "line 3, column x: 'inf' is not a number"),
        ("a.csv", "x\n5\n5.5\n", r"line 3, column x: '5\.5' is not a whole number"),
        ("a.csv", "y,x\n5,6\n5\n", "line 3, column x"),
        ("a.csv", "x\n", "has no rows"),
        ("a.csv", "", "has no rows"),
        ("a.jsonl", '{"x": 1}\nnonsense\n', "line 2 is not a JSON object"),
        ("a.jsonl", '{"x": 1}\n[1]\n', "line 2 is not a JSON object"),
        ("a.jsonl", '{"x": 1}\n5\n', "line 2 is not a JSON object"),
        ("a.jsonl", '{"x": [1]}\n', "line 1, column x"),
        ("a.jsonl", '{"x": null}\n', "line 1, column x"),
    ],
)
def test_a_bad_file_of_lengths_is_refused(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(ConfigError, match=message) as refusal:
        parse_lengths(f"file:{file}:x")
    assert str(file) in str(refusal.value)


@pytest.mark.parametrize("text", ["file:", "file:x", "file:/no/such/file.csv:x"])
def test_a_file_of_lengths_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        parse_lengths(text)


def test_binary_content_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"x\n\xff\xfe\n")
    with pytest.raises(ConfigError, match="cannot read"):
        read_column(file, "x")


def test_quantiles_come_back_out() -> None:
    points = ((0.05, 10.0), (0.25, 40.0), (0.5, 100.0), (0.75, 300.0), (0.95, 900.0))
    values = sorted(draws(Quantiles(points), 20_000))
    for share, value in points:
        assert values[round(share * 20_000)] == pytest.approx(value, rel=0.1)
    assert (values[0], values[-1]) == (10, 900)
    expected = 10 * 0.05 + 0.2 * 25 + 0.25 * 70 + 0.25 * 200 + 0.2 * 600 + 0.05 * 900
    assert Quantiles(points).mean == pytest.approx(expected)
    assert statistics.mean(values) == pytest.approx(expected, rel=0.03)


@given(
    values=st.lists(st.floats(0, 1e6), min_size=1, max_size=8),
    shares=st.sets(st.floats(0, 1), min_size=8, max_size=8),
    seed=st.integers(0, 1 << 32),
)
def test_quantiles_stay_in_range(values: list[float], shares: set[float], seed: int) -> None:
    points = tuple(zip(sorted(shares)[: len(values)], sorted(values), strict=True))
    lengths = Quantiles(points)
    drawn = lengths.sample(Random(seed))
    assert max(1, round(min(values))) <= drawn <= max(1, round(max(values)))
    assert min(values) - 1e-6 <= lengths.mean <= max(values) * (1 + 1e-9) + 1e-6


@given(st.integers(1, 500), st.integers(0, 500), st.integers(0, 1 << 32))
def test_uniform_stays_in_range(low: int, spread: int, seed: int) -> None:
    lengths = parse_lengths(f"uniform:{low}-{low + spread}")
    assert low <= lengths.sample(Random(seed)) <= low + spread


def test_pauses() -> None:
    rng = Random(2)
    assert parse_pauses("2.5").draw(rng) == 2.5
    assert parse_pauses("0").draw(rng) == 0
    exponential = parse_pauses("exponential:3")
    values = [exponential.draw(rng) for _ in range(8000)]
    assert min(values) >= 0
    assert statistics.mean(values) == pytest.approx(3, rel=0.08)
    assert statistics.stdev(values) == pytest.approx(3, rel=0.1)
    lognormal = parse_pauses("lognormal:mean=2,sigma=0.5,max=4")
    values = [lognormal.draw(rng) for _ in range(8000)]
    assert (min(values) > 0, max(values)) == (True, 4)
    assert statistics.mean(values) == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize(
    "text",
    [
        "", "-1", "nan", "inf", "soon", "1:2", "exponential", "exponential:", "exponential:0",
        "exponential:-1", "exponential:nan", "exponential:inf", "exponential:x", "uniform:1-2",
        "lognormal:mean=0,sigma=1", "lognormal:mean=1,sigma=1,min=-1", "lognormal:mean=1",
    ],
)  # fmt: skip
def test_other_pauses_are_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a pause; give seconds \(2.5\)"):
        parse_pauses(text)


def test_pauses_are_never_endless() -> None:
    rng = Random(3)
    for text in ("exponential:1e-9", "lognormal:mean=0.001,sigma=5"):
        assert all(parse_pauses(text).draw(rng) < math.inf for _ in range(1000))
