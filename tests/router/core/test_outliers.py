"""Who stands out among its peers: Envoy's rule, and that it ejects nobody for nothing."""

from __future__ import annotations

import pytest

from shoal.router.core.circuit_breaker import BreakerBoard, BreakerSettings, FailureKind
from shoal.router.core.outliers import MIN_REQUESTS, outliers
from shoal.router.core.types import BreakerState

NAMES = "abcdef"


def counts(**failed: int) -> dict[str, tuple[int, int]]:
    """Of 1,000 requests each."""
    return {name: (1000 - failed.get(name, 0), 1000) for name in NAMES}


@pytest.mark.parametrize(
    ("failed", "found"),
    [
        ({}, []),
        ({"a": 200}, ["a"]),
        ({"a": 60}, []),  # its own rate pulls the mean down: 5 % below that is 6 % of 6
        ({"a": 61}, ["a"]),
        ({"a": 1}, []),  # two deviations, and nothing
        (dict.fromkeys(NAMES, 300), []),  # a fault they share
        ({"a": 300, "b": 300}, []),  # two of six are within 1.9 deviations
        ({**dict.fromkeys(NAMES, 300), "a": 900}, ["a"]),
    ],
)
def test_who_stands_out(failed: dict[str, int], found: list[str]) -> None:
    assert outliers(counts(**failed)) == found


def test_too_few_to_compare() -> None:
    four = dict.fromkeys("bcd", (1000, 1000)) | {"a": (500, 1000)}
    assert outliers(four) == []
    assert outliers(four | {"e": (MIN_REQUESTS - 1, MIN_REQUESTS - 1)}) == []
    assert outliers(four | {"e": (MIN_REQUESTS, MIN_REQUESTS)}) == ["a"]


def make_board(failing: dict[str, int], names: str = NAMES) -> BreakerBoard:
    """150 requests each, those that fail spread over them."""
    board = BreakerBoard(BreakerSettings(max_open_s=8.0))
    for number in range(150):
        for name in names:
            if number % 10 < failing.get(name, 0):
                board.failure(name, 1.0, FailureKind.STATUS)
            else:
                board.success(name, 1.0)
    return board


def test_an_outlier_is_out_for_a_while_and_then_probed() -> None:
    board = make_board({"c": 2})
    assert board.effective_states({"m": NAMES}, 1.0) == {}
    assert board.eject_outliers({"m": NAMES}, 1.0) == ["c"]
    assert board.effective_states({"m": NAMES}, 1.0) == {"c": BreakerState.OPEN}
    board.healthy("c", 2.0)  # it was all along
    assert board.state("c", 8.9) is BreakerState.OPEN
    assert board.state("c", 9.0) is BreakerState.HALF_OPEN
    board.begin("c", 9.0)
    board.success("c", 9.1)
    assert board.state("c", 9.1) is BreakerState.CLOSED
    assert board.eject_outliers({"m": NAMES}, 9.2) == []  # a clean sheet


def test_they_are_compared_with_those_of_their_model() -> None:
    board = make_board({"c": 2, "x": 2, "y": 2}, names="abcdefxy")
    assert board.eject_outliers({"m": NAMES, "n": "xy"}, 1.0) == ["c"]


def test_never_the_last_one() -> None:
    board = make_board({"c": 2})
    board.eject_outliers({"m": NAMES}, 1.0)
    for name in "abdef":
        for _ in range(5):
            board.failure(name, 1.1)
    states = board.effective_states({"m": NAMES}, 1.2)
    assert len(states) == 3  # half of them, and those that opened first come back first
    assert "c" not in states
