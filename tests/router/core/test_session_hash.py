"""Sessions: shares, stability, bounds."""

from __future__ import annotations

from collections import Counter

import pytest

from shoal.router.core.profile import Profile
from shoal.router.core.session_hash import LOAD_BOUND, MIN_BOUND, SessionScorer, hash64
from shoal.router.core.types import EndpointState, RoutingRequest
from tests.router.core.endpoints import MODEL, chosen, endpoint, policy

SESSIONS = [f"session {number}" for number in range(2000)]


def homes(routing: Profile, states: list[EndpointState], now: float = 0.0) -> dict[str, str]:
    """The endpoint of each session, all of them idle."""
    result = {}
    for session in SESSIONS:
        decision = routing.decide(RoutingRequest(MODEL, session_id=session), states, now)
        assert decision.endpoint is not None
        result[session] = decision.endpoint.endpoint_id
    return result


def test_the_hash_is_the_same_in_every_process() -> None:
    assert hash64("session 1") == 17099827076019606721
    assert hash64("") != hash64(" ")


def test_a_session_has_one_home() -> None:
    states = [endpoint(name) for name in "abcd"]
    first = homes(policy("session", seed=1), states)
    assert homes(policy("session", seed=2), states[::-1]) == first


def test_only_the_sessions_of_one_that_leaves_move() -> None:
    routing = policy("session")
    states = [endpoint(name) for name in "abcd"]
    before = homes(routing, states)
    after = homes(routing, states[1:])
    assert {session for session in SESSIONS if before[session] != after[session]} == {
        session for session in SESSIONS if before[session] == "a"
    }
    assert max(Counter(after.values()).values()) < 1.15 * 2000 / 3


def test_one_that_joins_takes_its_share_from_all_alike() -> None:
    routing = policy("session")
    states = [endpoint(name) for name in "abcd"]
    before = homes(routing, states)
    after = homes(routing, [*states, endpoint("new")])
    moved = Counter(before[session] for session in SESSIONS if before[session] != after[session])
    assert {after[session] for session in SESSIONS if before[session] != after[session]} == {"new"}
    assert all(60 < moved[name] < 145 for name in "abcd")


@pytest.mark.parametrize("weight", [0.5, 2.0, 3.0])
def test_shares_follow_weights(weight: float) -> None:
    counts = Counter(
        homes(policy("session"), [endpoint("a", weight=weight), endpoint("b")]).values()
    )
    assert counts["a"] / counts["b"] == pytest.approx(weight, rel=0.15)


def test_more_weight_only_brings_sessions() -> None:
    routing = policy("session")
    before = homes(routing, [endpoint("a"), endpoint("b"), endpoint("c")])
    after = homes(routing, [endpoint("a", weight=2.0), endpoint("b"), endpoint("c")])
    moved = {session for session in SESSIONS if before[session] != after[session]}
    assert {after[session] for session in moved} == {"a"}


def test_in_slow_start_sessions_come_one_after_the_other() -> None:
    routing = policy("session", slow_start_s=10.0)
    states = [endpoint("a"), endpoint("b"), endpoint("new", ready_since=100.0)]
    arrived: set[str] = set()
    for now in (100.0, 102.0, 105.0, 108.0, 111.0):
        here = {session for session, home in homes(routing, states, now).items() if home == "new"}
        assert arrived < here  # those that came stay
        arrived = here
    assert len(arrived) == pytest.approx(2000 / 3, rel=0.15)


def test_no_endpoint_is_over_the_bound() -> None:
    """All requests are of five sessions and none ends."""
    routing = policy("session")
    in_flight = Counter[str]()
    for number in range(400):
        states = [endpoint(name, in_flight=in_flight[name]) for name in "abcd"]
        decision = routing.decide(
            RoutingRequest(MODEL, session_id=SESSIONS[number % 5]), states, 0.0
        )
        assert decision.endpoint is not None
        in_flight[decision.endpoint.endpoint_id] += 1
        bound = max(LOAD_BOUND * (number + 1) / 4, MIN_BOUND)
        assert max(in_flight.values()) <= bound + 1


def test_a_quiet_fleet_moves_no_session() -> None:
    routing = policy("session")
    request = RoutingRequest(MODEL, session_id="s")
    home = next(iter(chosen(routing, [endpoint("a"), endpoint("b")], request=request)))
    for busy in (1, 2, 3):
        states = [endpoint(name, in_flight=busy if name == home else 0) for name in "ab"]
        assert chosen(routing, states, request=request) == {home: 1}
    states = [endpoint(name, in_flight=4 if name == home else 0) for name in "ab"]
    assert home not in chosen(routing, states, request=request)


def test_the_second_choice_is_stable_too() -> None:
    routing = policy("session")
    crowded = [endpoint("a", in_flight=50), endpoint("b"), endpoint("c"), endpoint("d")]
    without = homes(routing, crowded[1:])
    assert homes(routing, crowded) == without


def test_without_a_session_the_least_loaded() -> None:
    routing = policy("session")
    states = [endpoint("a", in_flight=1), endpoint("b")]
    decision = routing.decide(RoutingRequest(MODEL), states, 0.0)
    assert decision.endpoint is states[1].endpoint
    assert decision.reason == "no session: fewest requests in flight"
    decision = routing.decide(RoutingRequest(MODEL, session_id="s"), states, 0.0)
    assert decision.reason == "home of the session"


def test_seeds_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal.router.core.session_hash.MAX_SEEDS", 10)
    scorer = SessionScorer()
    for number in range(100):
        scorer.score(RoutingRequest(MODEL, session_id="s"), [endpoint(f"e{number}")], 0.0)
        assert len(scorer._seeds) <= 10
