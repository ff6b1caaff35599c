from __future__ import annotations

import pytest

from shoal.benchmarks.measure.slo import meets, parse_slo
from shoal.errors import ConfigError
from tests.benchmarks.measure.builders import make_record


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ttft:200ms", {"ttft": 0.2}),
        ("ttft:200ms,tpot:50ms", {"ttft": 0.2, "tpot": 0.05}),
        (" itl = 0.5s , e2e:2m", {"itl": 0.5, "e2e": 120.0}),
        ("ttft:900us", {"ttft": 0.0009}),
    ],
)
def test_objectives_become_seconds(text: str, expected: dict[str, float]) -> None:
    assert parse_slo(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "ttft", "ttft:200", "speed:1s", "ttft:-1s", "ttft:1s,"])
def test_anything_else_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ConfigError, match="ttft:200ms,tpot:50ms"):
        parse_slo(text)


def test_an_objective_is_given_once() -> None:
    with pytest.raises(ConfigError, match="ttft twice"):
        parse_slo("ttft:1s,ttft:2s")


@pytest.mark.parametrize(
    ("slo", "met"),
    [
        ({"ttft": 0.1001}, True),
        ({"ttft": 0.0999}, False),
        ({"tpot": 0.0201}, True),
        ({"tpot": 0.0199}, False),
        ({"itl": 0.0299}, True),  # p99 of 10 and 30 ms is 29.8 ms
        ({"itl": 0.029}, False),
        ({"e2e": 0.15}, True),
        ({"e2e": 0.13}, False),
        ({"ttft": 1.0, "e2e": 0.13}, False),
    ],
)
def test_every_objective_must_hold(slo: dict[str, float], met: bool) -> None:
    record = make_record(ttft_s=0.1, gaps=(0.01, 0.03))
    assert meets(record, slo) is met


def test_a_failed_request_meets_nothing() -> None:
    assert not meets(make_record(error="timeout"), {"ttft": 10.0})


def test_what_a_short_answer_lacks_is_met() -> None:
    assert meets(make_record(gaps=()), {"tpot": 0.001, "itl": 0.001})
