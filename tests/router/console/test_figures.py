from __future__ import annotations

import pytest

from shoal.router.console.figures import COLUMNS, columns, figures
from shoal.router.console.history import History
from shoal.router.console.samples import ALL
from tests.router.console.builders import endpoint, sample


def history(number: int = 10) -> History:
    """Each two seconds: 4 requests of m, one of them refused, 100 tokens in, 80 out."""
    found = History()
    for turn in range(1, number + 1):
        found.add(
            sample(
                turn * 2.0, requests={("m", "200"): 3, ("m", "429"): 1},
                tokens={("m", "prompt"): 100, ("m", "cached"): 25, ("m", "completion"): 80},
                ttft={"m": [0.05, 0.05, 4.0]}, queued=turn - 1.0, held={"cold": 2},
            )
        )  # fmt: skip
    return found


def test_figures() -> None:
    found = figures(history(), "m", target_s=1.0)
    assert (found.requests_per_s, found.failed_per_s) == (2.0, 0.5)
    assert (found.input_tokens_per_s, found.cached_share) == (50.0, 0.25)
    assert found.output_tokens_per_s == 40.0
    assert found.tokens_per_cost == pytest.approx(40.0 / (3.6 / 3600))
    assert found.ttft_p50_s == pytest.approx(0.055, abs=0.01)
    assert found.ttft_p99_s == pytest.approx(5.0, rel=0.1)
    assert found.attainment == pytest.approx(2 / 3)
    assert (found.ready, found.queued, found.held) == (1, 10.0, 0)
    assert figures(history(), ALL, target_s=1.0).held == 2


def test_nothing_is_not_zero() -> None:
    found = figures(History(), ALL, target_s=1.0)
    assert (found.requests_per_s, found.queued) == (0.0, 0.0)
    for value in (found.ttft_p50_s, found.attainment, found.tokens_per_cost, found.cached_share):
        assert value is None
    quiet = History()
    quiet.add(sample(2.0))
    assert figures(quiet, "m", target_s=1.0).attainment is None


def test_an_autoscalers_price_counts_where_endpoints_have_none() -> None:
    free = History()
    free.add(sample(2.0, tokens={("m", "completion"): 20}, endpoints=[endpoint()]))
    assert figures(free, "m", target_s=1.0).tokens_per_cost is None
    assert figures(free, "m", target_s=1.0, cost_per_hour=36.0).tokens_per_cost == 1000.0
    assert figures(history(), "m", target_s=1.0, cost_per_hour=36.0).cost_per_hour == 3.6


def test_columns_are_rates_of_ten_seconds_and_levels_of_the_moment() -> None:
    samples = history().all()
    samples[4] = sample(10.0)  # nothing happened in these two seconds
    found = columns(samples, "m", since=0.0, target_s=1.0)
    assert list(found) == list(COLUMNS)
    assert found["time"] == [2.0 * turn for turn in range(1, 11)]
    assert found["requests"][0] == 2.0
    assert found["requests"][4] == pytest.approx(16 / 10)
    assert found["queued"] == [1, 2, 3, 4, 1, 6, 7, 8, 9, 10]
    assert found["attainment"][-1] == pytest.approx(2 / 3, rel=1e-5)
    later = columns(samples, "m", since=16.0, target_s=1.0)
    assert later == {name: values[8:] for name, values in found.items()}
    assert columns(samples, "m", since=20.0, target_s=1.0)["time"] == []
    assert columns([], "m", since=0.0, target_s=1.0)["ttft_p50"] == []


def test_times_keep_their_milliseconds() -> None:
    assert columns([sample(1795680436.331)], ALL, since=0, target_s=1)["time"] == [1795680436.331]
