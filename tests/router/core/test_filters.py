"""Who may take a request, and what it means when nobody may."""

from __future__ import annotations

from typing import Any

import pytest

from shoal.router.core.filters import MIN_RAMP, eligible, ramp
from shoal.router.core.types import (
    BreakerState,
    EndpointState,
    EndpointStatus,
    RoutingRequest,
    Shortage,
)
from tests.router.core.endpoints import MODEL, endpoint

OPEN, HALF_OPEN = BreakerState.OPEN, BreakerState.HALF_OPEN
STARTING, UNHEALTHY = EndpointStatus.STARTING, EndpointStatus.UNHEALTHY
DRAINING = EndpointStatus.DRAINING
A = endpoint("a")


@pytest.mark.parametrize(
    ("endpoints", "request_fields", "left", "rejected", "shortage"),
    [
        # Model and labels: what the request is about.
        ([], {}, "", {}, Shortage.NO_MODEL),
        ([A, endpoint("b", models=("gpt",))], {}, "a", {"model": 1}, None),
        ([endpoint("b", models=("gpt",))], {}, "", {"model": 1}, Shortage.NO_MODEL),
        ([endpoint("new", models=())], {}, "", {"model": 1}, Shortage.NO_MODEL),
        (
            [A, endpoint("b", version_="canary"), endpoint("c", version_="old")],
            {"selector": {"version": "canary"}},
            "b",
            {"selector": 2},
            None,
        ),
        ([A], {"selector": {"zone": "a"}}, "", {"selector": 1}, Shortage.NO_MODEL),
        # Status.
        ([A, endpoint("b", status=DRAINING)], {}, "a", {"status": 1}, None),
        ([endpoint("b", status=STARTING)], {}, "", {"status": 1}, Shortage.STARTING),
        (
            [endpoint("b", status=STARTING), endpoint("c", status=UNHEALTHY)],
            {},
            "",
            {"status": 2},
            Shortage.STARTING,
        ),
        (
            [endpoint("b", status=DRAINING), endpoint("c", status=UNHEALTHY)],
            {},
            "",
            {"status": 2},
            Shortage.NONE_HEALTHY,
        ),
        # Those that failed it.
        ([A, endpoint("b")], {"excluded": frozenset({"a"})}, "b", {"excluded": 1}, None),
        ([A], {"excluded": frozenset({"a"})}, "", {"excluded": 1}, Shortage.ALL_EXCLUDED),
        # The breaker, which has no last word.
        ([A, endpoint("b", breaker=OPEN)], {}, "a", {"breaker": 1}, None),
        ([A, endpoint("b", breaker=HALF_OPEN)], {}, "ab", {}, None),
        ([endpoint("b", breaker=OPEN)], {}, "b", {}, None),
        ([endpoint("b", breaker=OPEN), endpoint("c", breaker=OPEN)], {}, "bc", {}, None),
        (
            [endpoint("b", breaker=OPEN), endpoint("c", status=UNHEALTHY)],
            {},
            "b",
            {"status": 1},
            None,
        ),
        (
            [A, endpoint("b", breaker=OPEN)],
            {"excluded": frozenset({"a"})},
            "b",
            {"excluded": 1},
            None,
        ),
        # Room.
        (
            [endpoint("a", in_flight=3, concurrency_limit=4), endpoint("b", in_flight=99)],
            {},
            "ab",
            {},
            None,
        ),
        ([A, endpoint("b", in_flight=4, concurrency_limit=4)], {}, "a", {"full": 1}, None),
        (
            [endpoint("b", in_flight=5, concurrency_limit=4), endpoint("c", breaker=OPEN)],
            {},
            "",
            {"full": 1, "breaker": 1},
            Shortage.ALL_FULL,
        ),
    ],
)
def test_filters(
    endpoints: list[EndpointState],
    request_fields: dict[str, Any],
    left: str,
    rejected: dict[str, int],
    shortage: Shortage | None,
) -> None:
    request = RoutingRequest(MODEL, **request_fields)
    states, counts, why, is_ramping = eligible(request, endpoints, 0.0)
    assert "".join(state.endpoint.endpoint_id for state in states) == left
    assert counts == rejected
    assert why is shortage
    assert not is_ramping


@pytest.mark.parametrize(
    ("ready_since", "reached"),
    [(None, 1.0), (0.0, 1.0), (95.0, 1.0), (97.5, 0.5), (99.9, MIN_RAMP), (100.0, MIN_RAMP)],
)
def test_ramp(ready_since: float | None, reached: float) -> None:
    state = endpoint("a", ready_since=ready_since)
    assert ramp(state, 100.0, 5.0) == pytest.approx(reached)
    assert ramp(state, 100.0, 0.0) == 1.0


@pytest.mark.parametrize(
    ("status", "newest", "is_ramping"),
    [
        (EndpointStatus.READY, 95.0, True),
        (EndpointStatus.READY, 99.5, False),
        (UNHEALTHY, 95.0, False),
    ],
)
def test_who_has_just_become_ready_is_noticed(
    status: EndpointStatus, newest: float, is_ramping: bool
) -> None:
    new = endpoint("new", ready_since=99.0, status=status)
    assert eligible(RoutingRequest(MODEL), [A, new], newest)[3] is is_ramping
