"""Shapes: the time at which so many arrivals are expected, checked against the integral of the
rate as it is described."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.benchmarks.workload.rate_shapes import Flat, Ramp, Sine, Steps, parse_shape
from shoal.errors import ConfigError

Rate = Callable[[float], float]


def integral(rate: Rate, until_s: float, *, num_parts: int = 20_000) -> float:
    """By the midpoint rule; independent of the formulas under test."""
    part_s = until_s / num_parts
    return math.fsum(rate((part + 0.5) * part_s) * part_s for part in range(num_parts))


def steps_rate(t: float) -> float:
    return 4.0 if t < 5 else 0.0 if t < 8 else 10.0


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("flat", lambda t: 4.0),
        ("ramp:20", lambda t: 4 + 16 * t / 20),
        ("ramp:1", lambda t: 4 - 3 * t / 20),
        ("ramp:4", lambda t: 4.0),
        ("sine:0.5,7", lambda t: 4 * (1 + 0.5 * math.sin(2 * math.pi * t / 7))),
        ("sine:1,30", lambda t: 4 * (1 + math.sin(2 * math.pi * t / 30))),
        ("sine:0,3", lambda t: 4.0),
        ("steps:0@5,10@8", steps_rate),
    ],
)
def test_a_shape_is_the_inverse_of_the_cumulative_rate(text: str, rate: Rate) -> None:
    shape = parse_shape(text, rate=4.0, duration_s=20.0)
    for until_s in (0.5, 4.0, 9.0, 13.7, 19.0):
        expected = integral(rate, until_s)
        assert shape.when(expected) == pytest.approx(until_s, abs=2e-3)


@given(
    st.sampled_from(["flat", "ramp:30", "ramp:0", "sine:1,5", "sine:0.3,60", "steps:0@3,9@4,1@9"]),
    st.floats(0.01, 500),
    st.lists(st.floats(0, 300), min_size=2, max_size=20),
)
def test_later_counts_come_later(text: str, rate: float, counts: list[float]) -> None:
    shape = parse_shape(text, rate=rate, duration_s=60.0)
    times = [shape.when(count) for count in sorted(counts)]
    tolerance = 1e-6 * max([1.0, *(t for t in times if t < math.inf)])
    assert times[0] >= 0
    assert all(b >= a - tolerance for a, b in itertools.pairwise(times))


def test_a_ramp_to_zero_ends_with_half_the_arrivals_of_a_flat_rate() -> None:
    ramp = Ramp(rate=10, to_rate=0, duration_s=60)
    assert ramp.when(300) == pytest.approx(60)
    assert ramp.when(300.001) == math.inf


def test_a_nearly_level_ramp_stays_exact() -> None:
    ramp = Ramp(rate=10, to_rate=10 + 1e-9, duration_s=1000)
    assert ramp.when(5000) == pytest.approx(500, rel=1e-9)


def test_a_ramp_goes_on_beyond_its_duration() -> None:
    assert Ramp(rate=1, to_rate=3, duration_s=10).when(60) == pytest.approx(20)


def test_a_step_begins_at_its_time_and_a_rate_of_zero_lets_nothing_through() -> None:
    steps = Steps(rates=(2, 0, 4), times=(0, 10, 20))
    assert steps.when(0) == 0
    assert steps.when(19) == 9.5
    assert steps.when(20) == 10
    assert steps.when(20.4) == pytest.approx(20.1)
    assert Steps(rates=(2, 0), times=(0, 10)).when(20.1) == math.inf


def test_a_sine_has_its_mean_rate_over_whole_periods() -> None:
    sine = Sine(rate=3, amplitude=0.8, period_s=10)
    assert sine.when(3 * 10) == pytest.approx(10)
    assert sine.when(3 * 200) == pytest.approx(200)
    assert sine.when(0) == pytest.approx(0, abs=1e-6)


def test_flat_is_a_division() -> None:
    assert Flat(4).when(10) == 2.5


@pytest.mark.parametrize(
    "text",
    [
        "", "flat:1", "hill", "ramp", "ramp:", "ramp:-1", "ramp:nan", "ramp:inf", "ramp:x",
        "sine", "sine:0.5", "sine:1.1,10", "sine:-0.1,10", "sine:0.5,0", "sine:0.5,inf",
        "sine:nan,10", "sine:1,2,3", "steps", "steps:", "steps:5", "steps:5@0", "steps:5@-1",
        "steps:5@10,6@10", "steps:5@10,6@9", "steps:-5@10", "steps:inf@10", "steps:5@nan",
        "steps:5@1@2", "steps:5@inf", "steps:nan@5",
    ],
)  # fmt: skip
def test_other_texts_are_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a shape; give flat, ramp:TO_RATE, sine"):
        parse_shape(text, rate=1.0, duration_s=10.0)


def test_a_ramp_without_an_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="a ramp needs a duration"):
        parse_shape("ramp:5", rate=1.0, duration_s=math.inf)
