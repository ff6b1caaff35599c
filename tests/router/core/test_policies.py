"""Every policy, by what it chooses."""

from __future__ import annotations

from collections import Counter
from itertools import cycle
from typing import Any

import pytest

from shoal.router.core.exact_index import ExactIndex
from shoal.router.core.policies import POLICY_NAMES
from shoal.router.core.prefix_index import PrefixIndex
from shoal.router.core.ttft_model import Coefficients, TTFTModels
from shoal.router.core.types import BreakerState, EndpointMetrics, RoutingRequest, Shortage
from shoal.router.settings.routing import PolicyName
from tests.router.core.endpoints import MODEL, changed, chosen, endpoint, policy

FOUR = [endpoint(name) for name in "abcd"]
CACHE_AWARE = ("cost", "prefix", "prefix_exact")


def test_the_names_are_those_of_the_settings() -> None:
    assert set(POLICY_NAMES) == set(PolicyName.__args__)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="choose one of cost, round_robin"):
        policy("wisest")


@pytest.mark.parametrize("name", POLICY_NAMES)
def test_equal_endpoints_get_equal_shares(name: str) -> None:
    """One after the other, so that none ever has a request in flight: ties are drawn."""
    counts = chosen(policy(name), FOUR, times=1000)
    assert min(counts.values()) > 180, counts
    assert len(counts) == 4


@pytest.mark.parametrize("name", POLICY_NAMES)
def test_a_shortage_is_a_decision_with_a_reason(name: str) -> None:
    full = [endpoint("a", in_flight=1, concurrency_limit=1), endpoint("b", models=())]
    decision = policy(name).decide(RoutingRequest(MODEL), full, 0.0)
    assert decision.endpoint is None
    assert decision.shortage is Shortage.ALL_FULL
    assert decision.reason == "every endpoint of the model is full"
    assert decision.rejected == {"full": 1, "model": 1}
    assert not decision.candidates


@pytest.mark.parametrize("name", POLICY_NAMES)
def test_candidates_are_the_best_three_with_reasons(name: str) -> None:
    many = [endpoint(f"e{number}", in_flight=number) for number in range(9)]
    decision = policy(name).decide(RoutingRequest(MODEL, 500, session_id="s"), many, 0.0)
    assert decision.policy == name
    assert decision.endpoint is not None
    first, second, third = decision.candidates
    assert first.endpoint_id == decision.endpoint.endpoint_id
    assert second.score >= third.score
    assert len({first.endpoint_id, second.endpoint_id, third.endpoint_id}) == 3
    assert all(candidate.reasons for candidate in decision.candidates)
    assert decision.candidates[:2] == (first, second)
    one = policy(name).decide(RoutingRequest(MODEL), many[:1], 0.0)
    assert [candidate.endpoint_id for candidate in one.candidates] == ["e0"]
    assert len(one.candidates) == 1


@pytest.mark.parametrize("name", POLICY_NAMES)
def test_slow_start(name: str) -> None:
    """Half its share half way; requests are of different sessions and stay in flight a while."""
    routing = policy(name, slow_start_s=10.0)
    in_flight: Counter[str] = Counter()
    running: list[str] = []
    counts: Counter[str] = Counter()
    for number in range(2000):
        states = [
            endpoint(who, in_flight=in_flight[who], ready_since=95.0 if who == "d" else 0.0)
            for who in "abcd"
        ]
        request = RoutingRequest(MODEL, 500, session_id=str(number))
        decision = routing.decide(request, states, 100.0)
        assert decision.endpoint is not None
        who = decision.endpoint.endpoint_id
        counts[who] += 1
        in_flight[who] += 1
        running.append(who)
        if len(running) > 40:
            in_flight[running.pop(0)] -= 1
    share = counts["d"] / (2000 / 4)
    # Where load alone decides, an empty endpoint takes each request it may take.
    most = 0.65 if name in ("round_robin", "random", "session") else 1.2
    assert 0.3 < share < most, counts


@pytest.mark.parametrize("name", POLICY_NAMES)
def test_all_at_the_start_share_the_work(name: str) -> None:
    new = [endpoint(who, ready_since=99.9) for who in "ab"]
    counts = chosen(policy(name, slow_start_s=10.0), new, times=400, now=100.0)
    assert min(counts["a"], counts["b"]) > 150


@pytest.mark.parametrize("name", [name for name in POLICY_NAMES if name != "power_of_two"])
def test_weights(name: str) -> None:
    """Three times the weight, three times the requests, when requests stay in flight a while."""
    routing = policy(name)
    in_flight: Counter[str] = Counter()
    running: list[str] = []
    counts: Counter[str] = Counter()
    for number in range(1200):
        states = [
            endpoint(who, weight=weight, in_flight=in_flight[who])
            for who, weight in (("light", 1.0), ("heavy", 3.0))
        ]
        decision = routing.decide(
            RoutingRequest(MODEL, 500, session_id=str(number)), states, number * 0.01
        )
        assert decision.endpoint is not None
        who = decision.endpoint.endpoint_id
        counts[who] += 1
        in_flight[who] += 1
        running.append(who)
        if len(running) > 40:
            in_flight[running.pop(0)] -= 1
    assert 2.4 < counts["heavy"] / counts["light"] < 3.6, counts


def test_round_robin_takes_turns_smoothly() -> None:
    routing = policy("round_robin")
    states = [endpoint("a", weight=5.0), endpoint("b"), endpoint("c")]
    for _ in range(3):
        order = "".join(next(iter(chosen(routing, states))) for _ in range(7))
        assert Counter(order) == {"a": 5, "b": 1, "c": 1}
        assert "aaa" not in order
        assert "bc" not in order
        assert "cb" not in order


def test_round_robin_forgets_models_and_endpoints_that_are_gone() -> None:
    routing = policy("round_robin")
    for number in range(1500):  # endpoints, then models: both memories are bounded
        chosen(routing, [endpoint(f"e{number}"), endpoint("stays")])
        states = [endpoint("x", models=(f"m{number}",))]
        chosen(routing, states, request=RoutingRequest(f"m{number}"))
    assert chosen(routing, FOUR, times=8) == Counter("aabbccdd")


def test_least_loaded_counts_requests_for_the_weight() -> None:
    states = [endpoint("a", in_flight=3), endpoint("b", in_flight=4, weight=2.0)]
    assert chosen(policy("least_loaded"), states) == {"b": 1}


def test_power_of_two_takes_the_better_of_those_it_drew() -> None:
    draws = cycle([0.0, 0.0, 0.99, 0.0, 0.5, 0.99])  # places (0, 1), (2, 0), (1, 2)

    class Drawn:
        def random(self) -> float:
            return next(draws)

    routing = policy("power_of_two", rng=Drawn())
    states = [endpoint("a", in_flight=2), endpoint("b", in_flight=1), endpoint("c", in_flight=3)]
    assert [next(iter(chosen(routing, states))) for _ in range(3)] == ["b", "a", "b"]


def turn(*chunks: int, session_id: str | None = None) -> RoutingRequest:
    """A prompt of whole chunks."""
    return RoutingRequest(MODEL, 64 * len(chunks) + 10, chunks, session_id=session_id)


@pytest.mark.parametrize("name", CACHE_AWARE)
def test_a_conversation_stays_with_its_cache(name: str) -> None:
    index = PrefixIndex()
    routing = policy(name, index=index)
    chunks = [1, 2]
    home = None
    for number in range(20):
        decision = routing.decide(turn(*chunks), FOUR, float(number))
        assert decision.endpoint is not None
        assert home in (None, decision.endpoint.endpoint_id)
        home = decision.endpoint.endpoint_id
        assert decision.num_cached_tokens == (64 * (len(chunks) - 2) if number else 0)
        index.record(home, chunks)
        chunks += [100 + number, 200 + number]


@pytest.mark.parametrize("name", CACHE_AWARE)
def test_a_conversation_leaves_a_worker_that_is_swamped(name: str) -> None:
    index = PrefixIndex()
    index.record("a", (1, 2, 3))
    states = [endpoint("a", in_flight=30, in_flight_prefill_tokens=20_000), endpoint("b")]
    assert chosen(policy(name, index=index), states, request=turn(1, 2, 3, 4)) == {"b": 1}


@pytest.mark.parametrize("name", CACHE_AWARE)
def test_one_prefix_and_short_questions_spread(name: str) -> None:
    """No question fills a chunk of its own, so all prompts have the same hashes."""
    index = PrefixIndex()
    routing = policy(name, index=index)
    counts: Counter[str] = Counter()
    for number in range(100):
        decision = routing.decide(turn(1, 2, 3, 4, 5, 6, 7, 8), FOUR, number * 0.1)
        assert decision.endpoint is not None
        counts[decision.endpoint.endpoint_id] += 1
        index.record(decision.endpoint.endpoint_id, (1, 2, 3, 4, 5, 6, 7, 8))
    assert max(counts.values()) <= 40
    assert len(counts) == 4


def test_exact_and_approximate_endpoints_side_by_side() -> None:
    """Each is judged by the best that is known of it."""
    index, exact = PrefixIndex(), ExactIndex()
    exact.register("a", 16)
    exact.register("other size", 32)
    index.record("a", (1, 2, 3, 4))  # what we sent; but the events say that it is gone
    index.record("b", (1, 2))
    request = changed(turn(1, 2, 3, 4), block_hashes=tuple(range(16)), block_size=16)
    states = [endpoint("a"), endpoint("b"), endpoint("other size")]
    for name in ("cost", "prefix_exact"):
        decision = policy(name, index=index, exact_index=exact).decide(request, states, 0.0)
        assert decision.endpoint is not None
        assert decision.endpoint.endpoint_id == "b"
        assert decision.num_cached_tokens == 128
    decision = policy("prefix", index=index, exact_index=exact).decide(request, states, 0.0)
    assert decision.endpoint is not None
    assert decision.endpoint.endpoint_id == "a"

    exact.store("a", range(12))
    decision = policy("cost", index=index, exact_index=exact).decide(request, states, 0.0)
    assert decision.endpoint is not None
    assert decision.endpoint.endpoint_id == "a"
    assert decision.num_cached_tokens == 192


def test_a_burst_of_one_new_prompt_goes_together_before_its_events_come() -> None:
    exact = ExactIndex()
    for state in FOUR:
        exact.register(state.endpoint.endpoint_id, 16)
    routing = policy("prefix_exact", exact_index=exact)
    request = RoutingRequest(MODEL, 4000, block_hashes=tuple(range(250)), block_size=16)
    first = routing.decide(request, FOUR, 0.0).endpoint
    assert first is not None
    exact.expect(first.endpoint_id, request.block_hashes, 0.0)
    second = routing.decide(request, FOUR, 0.01)
    assert second.endpoint == first
    assert second.num_cached_tokens == 3999  # the last token is always computed


@pytest.mark.parametrize("name", CACHE_AWARE)
@pytest.mark.parametrize(
    ("worse", "why"),
    [
        ({"in_flight_prefill_tokens": 5000}, "queue_s"),
        ({"in_flight": 50}, "running_s"),
        ({"metrics": EndpointMetrics(9, 5, 0.5)}, "queue_s"),
        ({"metrics": EndpointMetrics(9, 0, 0.99)}, "kv_pressure_s"),
    ],
)
def test_what_makes_an_endpoint_dear(name: str, worse: dict[str, Any], why: str) -> None:
    states = [endpoint("dear", **worse), endpoint("cheap")]
    decision = policy(name).decide(RoutingRequest(MODEL, 1000), states, 0.0)
    assert decision.endpoint is not None
    assert decision.endpoint.endpoint_id == "cheap"
    cheap, dear = decision.candidates
    assert dear.reasons[why] > cheap.reasons[why]
    parts = ("prefill_s", "queue_s", "running_s", "kv_pressure_s", "crowding_s")
    for candidate in decision.candidates:
        cost_s = sum(candidate.reasons[part] for part in parts)
        assert candidate.score == pytest.approx(-cost_s)


def test_a_full_cache_is_dear() -> None:
    index = PrefixIndex()
    index.set_capacity("full", 10)
    index.set_capacity("empty", 1000)
    index.record("full", range(100, 110))
    index.record("empty", range(100, 110))
    states = [endpoint("full"), endpoint("empty")]
    decision = policy("cost", index=index).decide(turn(1, 2, 3), states, 0.0)
    assert decision.endpoint is not None
    assert decision.endpoint.endpoint_id == "empty"


MANY = [endpoint(f"e{number}") for number in range(500)]


@pytest.mark.parametrize("name", CACHE_AWARE)
def test_in_a_very_large_fleet_a_conversation_finds_its_cache(name: str) -> None:
    index, exact = PrefixIndex(), ExactIndex()
    for state in MANY[:400]:
        index.record(state.endpoint.endpoint_id, (1, 2))
    index.record("e123", (1, 2, 3))
    request = turn(1, 2, 3, 4)
    routing = policy(name, index=index, exact_index=exact)
    assert chosen(routing, MANY, request=request) == {"e123": 1}

    exact.register("e321", 16)
    exact.store("e321", range(16))
    request = changed(request, block_hashes=tuple(range(16)), block_size=16)
    home = "e123" if name == "prefix" else "e321"
    assert chosen(routing, MANY, request=request) == {home: 1}


@pytest.mark.parametrize("name", CACHE_AWARE)
def test_in_a_very_large_fleet_single_questions_spread(name: str) -> None:
    counts = chosen(policy(name), MANY, times=1000)
    assert max(counts.values()) <= 10
    assert len(counts) > 300


def test_a_worker_that_is_faster_gets_more_and_the_slow_one_some() -> None:
    ttft = TTFTModels(prior=Coefficients(0.02, 1e-4, 0.0, 0.0))
    routing = policy("cost", ttft=ttft)
    counts: Counter[str] = Counter()
    for number in range(600):
        now = number * 0.1
        decision = routing.decide(
            RoutingRequest(MODEL, 1000), [endpoint("fast"), endpoint("slow")], now
        )
        assert decision.endpoint is not None
        who = decision.endpoint.endpoint_id
        counts[who] += 1
        seconds = 0.08 if who == "fast" else 0.2
        ttft.observe(who, seconds, uncached_tokens=1000, tokens_ahead=0, num_running=0, now=now)
    assert counts["fast"] > 1.4 * counts["slow"]
    assert counts["slow"] > 60


def test_an_empty_prompt_is_routed() -> None:
    for name in CACHE_AWARE:
        assert sum(chosen(policy(name), FOUR, request=RoutingRequest(MODEL)).values()) == 1


def test_the_last_endpoint_is_used_though_its_breaker_is_open() -> None:
    for name in POLICY_NAMES:
        assert chosen(policy(name), [endpoint("a", breaker=BreakerState.OPEN)]) == {"a": 1}
