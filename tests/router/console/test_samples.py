"""What lies between two looks at the counters, and how it adds up."""

from __future__ import annotations

import pytest

from shoal import metrics as names
from shoal.router.console.samples import (
    ALL,
    MAX_MODELS,
    breaker_states,
    join,
    join_model,
    span_of,
    take,
)
from tests.router.console.builders import endpoint, sample, snapshot


def test_counters_are_compared_and_levels_are_read() -> None:
    before = snapshot(
        requests={("m", "200"): 10, ("n", "200"): 1},
        tokens={("m", "prompt"): 100, ("m", "cached"): 10, ("m", "completion"): 50},
        ttft={"m": [0.3]},
    )
    after = snapshot(
        requests={("m", "200"): 14, ("m", "503"): 2, ("m", "429"): 1, ("m", "400"): 3,
                  ("n", "200"): 1},
        tokens={("m", "prompt"): 180, ("m", "cached"): 40, ("m", "completion"): 90},
        ttft={"m": [0.3, 0.3, 0.02]},
        queued=5.0,
    )  # fmt: skip
    found = take(
        before, after,
        [endpoint("a", "m", in_flight=3, cost_per_hour=2.0, kv_cache_usage=0.2),
         endpoint("c", "m", kv_cache_usage=0.6),
         endpoint("b", "m", "n", in_flight=1, cost_per_hour=1.0, status="starting",
                  kv_cache_usage=0.9)],
        {"cold": 4},
        time=100.0, span_s=2.0,
    )  # fmt: skip
    assert (found.time, found.span_s, found.queued) == (100.0, 2.0, 6.0)
    one = found.models["m"]
    assert (one.requests, one.failed) == (10, 3)
    assert (one.input_tokens, one.cached_tokens, one.output_tokens) == (80, 30, 40)
    assert sum(one.ttft_counts) == 2
    assert (one.ready, one.in_flight, one.cost_per_hour) == (2, 4, 3.0)
    assert one.kv_usage == pytest.approx(0.4)
    everything = found.models[ALL]
    assert (everything.requests, everything.held) == (10, 4)
    assert (everything.ready, everything.in_flight, everything.cost_per_hour) == (2, 4, 3.0)
    assert found.models["cold"].held == 4
    assert (found.models["n"].requests, found.models["n"].in_flight) == (0, 1)


def test_so_many_models_have_numbers_of_their_own() -> None:
    names_of = [f"m{number}" for number in range(MAX_MODELS + 10)]
    found = take(
        {}, snapshot(requests={(name, "200"): 1 for name in names_of}), [], {}, time=1, span_s=1
    )
    assert len(found.models) == MAX_MODELS + 1
    assert found.models[ALL].requests == len(names_of)


def test_joined_counts_add_up_and_levels_are_averages_over_time() -> None:
    first = sample(10.0, 2.0, requests={("m", "200"): 4}, ttft={"m": [0.1]}, queued=3,
                   endpoints=[endpoint(in_flight=8)], held={"cold": 2})  # fmt: skip
    second = sample(18.0, 8.0, requests={("m", "200"): 6}, ttft={"m": [0.1, 2]}, queued=8,
                    endpoints=[endpoint(in_flight=3), endpoint("b")])  # fmt: skip
    joined = join([first, second])
    assert (joined.time, joined.span_s) == (18.0, 10.0)
    assert joined.queued == pytest.approx((4 * 2 + 9 * 8) / 10)
    one = joined.models["m"]
    assert (one.requests, sum(one.ttft_counts)) == (10, 3)
    assert one.in_flight == pytest.approx(8 * 0.2 + 3 * 0.8)
    assert one.ready == 2  # as it is at the end: no half replicas
    assert joined.models["cold"].held == pytest.approx(0.4)
    assert join_model([first, second], "m") == one
    assert span_of([first, second]) == 10.0


def test_a_model_that_has_gone_has_no_replicas() -> None:
    there = sample(2.0, requests={("m", "200"): 4})
    gone = sample(4.0, endpoints=[])
    found = join_model([there, gone], "m")
    assert (found.requests, found.ready, found.cost_per_hour) == (4, 0, 0)


def test_the_worst_breaker_of_an_endpoint_counts() -> None:
    states = {("a", "closed"): 2.0, ("a", "open"): 1.0, ("b", "half_open"): 1.0, ("b", "open"): 0.0,
              ("c", "closed"): 1.0}  # fmt: skip
    assert breaker_states({names.ROUTER_BREAKER_STATE: states}) == {"a": "open", "b": "half_open"}
    assert breaker_states({}) == {}
