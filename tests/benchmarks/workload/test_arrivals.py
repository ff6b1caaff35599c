"""Arrivals: the right number, as regular as asked, where the shape wants them.

Seeds are fixed, so a test either always passes or never; the bounds are several standard
deviations wide all the same, so that a change of the order of draws does not break them.
"""

from __future__ import annotations

import itertools
import math
import statistics
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.benchmarks.workload.arrivals import ArrivalSpec, start_times
from shoal.errors import ConfigError


def times_of(duration_s: float = 1000.0, seed: int = 0, **spec: Any) -> list[float]:
    return list(start_times(ArrivalSpec(**spec), duration_s=duration_s, seed=seed))


def gaps_of(times: list[float]) -> list[float]:
    return [b - a for a, b in itertools.pairwise(times)]


def test_constant_arrivals_begin_at_zero_and_are_evenly_spaced() -> None:
    times = times_of(10.0, rate=4.0, process="constant")
    assert times == pytest.approx([number / 4 for number in range(40)])


def test_constant_arrivals_do_not_depend_on_the_seed() -> None:
    one, other = (times_of(10.0, seed=seed, rate=4.0, process="constant") for seed in (1, 2))
    assert one == other


@pytest.mark.parametrize(
    ("process", "burstiness"),
    [("poisson", 1.0), ("gamma", 0.25), ("gamma", 1.0), ("gamma", 4.0), ("gamma", 100.0)],
)
def test_rate_and_regularity_are_as_asked(process: Any, burstiness: float) -> None:
    times = times_of(2000.0, rate=10.0, process=process, burstiness=burstiness)
    gaps = gaps_of(times)
    cv = 1 / math.sqrt(burstiness)
    # The number of arrivals has a standard deviation of about cv * sqrt(20,000).
    assert len(times) == pytest.approx(20_000, abs=5 * cv * math.sqrt(20_000))
    assert statistics.stdev(gaps) / statistics.mean(gaps) == pytest.approx(cv, rel=0.08)


def test_poisson_gaps_are_exponential() -> None:
    gaps = gaps_of(times_of(2000.0, rate=10.0))
    for share in (0.1, 0.5, 0.9):
        expected_s = -math.log(1 - share) / 10
        below = sum(gap < expected_s for gap in gaps) / len(gaps)
        assert below == pytest.approx(share, abs=0.02)


def test_the_first_arrival_follows_a_gap_unless_they_are_constant() -> None:
    firsts = [times_of(100.0, seed=seed, rate=1.0)[0] for seed in range(400)]
    assert min(firsts) > 0
    assert statistics.mean(firsts) == pytest.approx(1.0, abs=0.3)


def test_the_seed_decides() -> None:
    assert times_of(100.0, seed=3, rate=5.0) == times_of(100.0, seed=3, rate=5.0)
    assert times_of(100.0, seed=3, rate=5.0) != times_of(100.0, seed=4, rate=5.0)


def test_a_longer_run_begins_like_a_shorter_one() -> None:
    short, long = times_of(50.0, rate=5.0), times_of(100.0, rate=5.0)
    assert long[: len(short)] == short


@pytest.mark.parametrize(
    ("shape", "per_quarter"),
    [
        ("flat", (2500, 2500, 2500, 2500)),
        ("ramp:30", (3125, 4375, 5625, 6875)),
        ("ramp:0", (2187.5, 1562.5, 937.5, 312.5)),
        ("steps:20@250,0@500,40@750", (2500, 5000, 0, 10_000)),
        # rate * (t + A P / 2 pi) over a half wave, then less, twice.
        ("sine:1,500", (2500 + 5000 / math.pi, 2500 - 5000 / math.pi) * 2),
    ],
)
@pytest.mark.parametrize("process", ["poisson", "constant", "gamma"])
def test_arrivals_follow_the_shape(
    shape: str, per_quarter: tuple[float, ...], process: Any
) -> None:
    times = times_of(1000.0, rate=10.0, process=process, shape=shape)
    for quarter, expected in enumerate(per_quarter):
        count = sum(250 * quarter <= t < 250 * (quarter + 1) for t in times)
        assert count == pytest.approx(expected, abs=1 + 5 * math.sqrt(expected))


@settings(max_examples=60, deadline=None)
@given(
    rate=st.floats(0.05, 50),
    process=st.sampled_from(["constant", "poisson", "gamma"]),
    shape=st.sampled_from(["flat", "ramp:10", "ramp:0", "sine:1,3", "sine:0.2,0.5",
                           "steps:0@2", "steps:0@1,30@2.5"]),
    duration_s=st.floats(0.01, 10),
    seed=st.integers(0, 1 << 32),
)  # fmt: skip
def test_times_rise_and_stay_inside_the_run(
    rate: float, process: Any, shape: str, duration_s: float, seed: int
) -> None:
    times = times_of(duration_s, seed, rate=rate, process=process, shape=shape)
    assert times == sorted(times)
    assert all(0 <= t < duration_s for t in times)


def test_a_run_without_an_end_goes_on() -> None:
    endless = start_times(ArrivalSpec(rate=100.0), duration_s=math.inf, seed=0)
    times = list(itertools.islice(endless, 5000))
    assert times[-1] == pytest.approx(50, abs=4)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"rate": 0.0}, "a rate of 0 requests per second"),
        ({"rate": -1.0}, "a rate of -1"),
        ({"rate": math.inf}, "a rate of inf"),
        ({"rate": math.nan}, "a rate of nan"),
        ({"rate": 1.0, "process": "gamma", "burstiness": 0.0}, "a burstiness of 0"),
        ({"rate": 1.0, "process": "gamma", "burstiness": math.nan}, "a burstiness of nan"),
        ({"rate": 1.0, "burstiness": 2.0}, "belongs to gamma arrivals, not to poisson"),
        ({"rate": 1.0, "process": "constant", "burstiness": 2.0}, "not to constant"),
        ({"rate": 1.0, "shape": "hill"}, "'hill' is not a shape"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ArrivalSpec(**spec)


def test_times_do_not_go_back_where_arrivals_are_closer_than_the_inverse_is_exact() -> None:
    spec = ArrivalSpec(rate=1e8, shape="sine:1,7")
    times = list(itertools.islice(start_times(spec, duration_s=1.0, seed=0), 4000))
    assert len(times) == 4000
    assert times == sorted(times)
