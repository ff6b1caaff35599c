from __future__ import annotations

import pytest

from shoal.engine.core.policy import choose_victim, order_key
from shoal.engine.core.request import Request
from tests.builders import make_request


def running(name: str, *, computed: int, arrival: float = 0.0, priority: int = 0) -> Request:
    request = make_request(request_id=name, arrival_time=arrival, priority=priority)
    request.num_computed_tokens = computed
    return request


def test_order_is_priority_then_arrival_then_id() -> None:
    requests = [
        make_request(request_id=name, arrival_time=arrival, priority=priority)
        for name, arrival, priority in [("d", 0, 1), ("c", 2, 0), ("b", 1, 0), ("a", 9, -1)]
    ]
    assert [r.request_id for r in sorted(requests, key=order_key)] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("requests", "min_priority", "victim"),
    [
        pytest.param([], 0, None, id="nobody"),
        pytest.param(
            [running("old", computed=20), running("young", computed=900, arrival=5)],
            0, "old", id="least sunk work, although it came first",
        ),
        pytest.param(
            [running("a", computed=9, arrival=1), running("b", computed=9, arrival=2)],
            0, "b", id="latest arrival breaks a tie",
        ),
        pytest.param(
            [running("low", computed=900, priority=3), running("high", computed=1, priority=0)],
            0, "low", id="priority outweighs work",
        ),
        pytest.param(
            [running("a", computed=1, priority=0), running("b", computed=1, priority=1)],
            2, None, id="nobody more urgent is touched",
        ),
    ],
)  # fmt: skip
def test_victim(requests: list[Request], min_priority: int, victim: str | None) -> None:
    chosen = choose_victim(requests, min_priority=min_priority)
    assert (chosen and chosen.request_id) == victim
