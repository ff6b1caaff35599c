from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.router.core.circuit_breaker import (
    MAX_SHORTCUTS,
    PROBE_LEASE_S,
    BreakerBoard,
    BreakerSettings,
    FailureKind,
)
from shoal.router.core.types import BreakerState

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


def make_board(**settings: Any) -> BreakerBoard:
    return BreakerBoard(BreakerSettings(**settings))


def fail(board: BreakerBoard, times: int = 5, *, now: float = 0.0, **kind: Any) -> None:
    for _ in range(times):
        board.failure("a", now, **kind)


def fail_probe(board: BreakerBoard, now: float, **kind: Any) -> None:
    assert board.state("a", now) is HALF_OPEN
    board.begin("a", now)
    board.failure("a", now, **kind)


def half_opens_at(board: BreakerBoard, when: float) -> bool:
    return board.state("a", when - 1e-6) is OPEN and board.state("a", when + 1e-6) is HALF_OPEN


def test_failures_in_a_row_open_it() -> None:
    board = make_board()
    fail(board, 4)
    assert board.state("a", 0.0) is CLOSED
    fail(board, 1)
    assert board.state("a", 0.0) is OPEN
    assert board.state("a", 0.49) is OPEN
    assert board.state("a", 0.5) is HALF_OPEN


def test_a_success_between_begins_the_count_again() -> None:
    board = make_board()
    for _ in range(3):
        fail(board, 4)
        board.success("a", 0.0)
    assert board.state("a", 0.0) is CLOSED


def test_a_share_of_the_window_opens_it() -> None:
    board = make_board()
    for i in range(9):
        board.failure("a", i * 0.1)
        board.success("a", i * 0.1)
    board.success("a", 1.0)
    assert board.state("a", 1.0) is CLOSED  # 9 of 19
    board.failure("a", 1.0)
    assert board.state("a", 1.0) is OPEN  # 10 of 20


def test_failures_before_the_window_are_forgotten() -> None:
    board = make_board()
    for i in range(9):
        board.failure("a", i * 0.1)
        board.success("a", i * 0.1)
    board.success("a", 1.0)
    board.failure("a", 30.0)
    assert board.state("a", 30.0) is CLOSED


def test_one_probe_at_a_time() -> None:
    board = make_board()
    fail(board)
    board.begin("a", 0.6)
    assert board.state("a", 0.6) is OPEN  # to everybody else
    board.success("a", 0.7)
    assert board.state("a", 0.7) is CLOSED


def test_a_probe_that_is_never_heard_of_holds_its_place_for_a_while() -> None:
    board = make_board()
    fail(board)
    board.begin("a", 1.0)
    assert board.state("a", 0.99 + PROBE_LEASE_S) is OPEN
    assert board.state("a", 1.0 + PROBE_LEASE_S) is HALF_OPEN
    board.success("a", 20.0)  # late, and still a success
    assert board.state("a", 20.0) is CLOSED


def test_a_probe_without_a_verdict_gives_its_place_back() -> None:
    board = make_board()
    fail(board)
    board.abandon("a", 0.6)  # nothing was begun
    board.begin("a", 1.0)
    board.abandon("a", 1.1)
    assert board.state("a", 1.1) is HALF_OPEN


def test_each_failed_probe_doubles_the_wait_up_to_the_bound() -> None:
    board = make_board()
    fail(board)
    now = 0.0
    for wait_s in (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0):
        assert half_opens_at(board, now + wait_s)
        now += wait_s
        fail_probe(board, now)


def test_a_success_forgives_everything() -> None:
    board = make_board()
    fail(board)
    fail_probe(board, 0.5)
    board.begin("a", 1.5)
    board.success("a", 1.5)
    fail(board, 4, now=1.6)
    assert board.state("a", 1.6) is CLOSED
    fail(board, 1, now=1.6)
    assert half_opens_at(board, 2.1)


def test_requests_begun_before_it_opened_do_not_count() -> None:
    board = make_board()
    fail(board, 8)  # the last three were under way
    assert half_opens_at(board, 0.5)
    board.success("a", 0.2)
    assert board.state("a", 0.2) is OPEN
    board.failure("a", 0.6)
    assert board.state("a", 0.6) is HALF_OPEN


def test_an_endpoint_kept_in_by_the_fleet_rule_closes_on_its_first_success() -> None:
    board = make_board()
    fail(board)
    board.begin("a", 0.1)
    board.begin("a", 0.1)
    board.failure("a", 0.2)
    assert half_opens_at(board, 0.5)  # no longer wait for what was let through while open
    board.success("a", 0.3)
    assert board.state("a", 0.3) is CLOSED


def test_a_good_health_check_ends_the_wait_for_a_worker_that_was_gone() -> None:
    board = make_board(open_s=8.0)
    fail(board, kind=FailureKind.CONNECT)
    board.healthy("a", 1.0)
    assert board.state("a", 1.0) is HALF_OPEN


def test_a_worker_that_answers_5xx_was_never_gone() -> None:
    board = make_board(open_s=8.0)
    fail(board, kind=FailureKind.STATUS)
    board.healthy("a", 1.0)
    assert board.state("a", 1.0) is OPEN
    board.unhealthy("a")
    board.healthy("a", 3.0)  # but now it was, and is back
    assert board.state("a", 3.0) is HALF_OPEN


def test_a_worker_that_is_healthy_until_it_works_waits_longer_and_longer() -> None:
    board = make_board(open_s=8.0)
    fail(board)
    for i in range(MAX_SHORTCUTS):
        board.healthy("a", float(i))
        fail_probe(board, float(i))
    board.healthy("a", 4.0)
    assert board.state("a", 4.0) is OPEN
    board.unhealthy("a")
    board.healthy("a", 5.0)
    assert board.state("a", 5.0) is HALF_OPEN


def test_health_checks_of_a_closed_one_change_nothing() -> None:
    board = make_board()
    board.healthy("a", 0.0)
    board.unhealthy("a")
    board.begin("a", 0.0)
    assert board.changed(0.0) == frozenset()


def test_a_forgotten_endpoint_is_new() -> None:
    board = make_board()
    fail(board)
    board.changed(0.0)
    board.forget("a")
    board.forget("never seen")
    assert board.state("a", 0.0) is CLOSED
    assert board.changed(0.0) == {"a"}


def test_changes_are_told_once_and_those_by_time_too() -> None:
    board = make_board()
    assert board.changed(0.0) == frozenset()
    fail(board)
    assert board.changed(0.0) == {"a"}
    assert board.changed(0.1) == frozenset()
    assert board.changed(0.5) == {"a"}
    board.begin("a", 0.6)
    assert board.changed(0.6) == {"a"}
    board.success("a", 0.7)
    assert board.changed(0.7) == {"a"}
    assert board.changed(0.8) == frozenset()
    assert board.changed(1e9) == frozenset()


def test_the_last_endpoint_is_never_out_and_never_more_than_the_share() -> None:
    board = make_board(max_ejected_ratio=0.5)
    for i, endpoint_id in enumerate("abc"):
        for _ in range(5):
            board.failure(endpoint_id, i * 0.01)
    assert board.effective_states({"m": ["a"]}, 0.1) == {"b": OPEN, "c": OPEN}
    assert board.effective_states({"m": ["a", "b"]}, 0.1) == {"b": OPEN, "c": OPEN}
    assert board.effective_states({"m": "abcd"}, 0.1) == {"b": OPEN, "c": OPEN}
    assert board.effective_states({"m": "abcdef"}, 0.1) == {"a": OPEN, "b": OPEN, "c": OPEN}
    assert board.effective_states({"m": "abc", "n": "b"}, 0.1) == {"c": OPEN}
    assert board.effective_states({"m": "abc", "n": "b", "o": []}, 0.1) == {"c": OPEN}
    assert make_board().effective_states({"m": "abc"}, 0.1) == {}


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from("sfbahux"), st.floats(0, 3)),
        max_size=150,
    ),
    st.dictionaries(st.sampled_from("mno"), st.sets(st.sampled_from("abcd"), min_size=1)),
    st.sampled_from([0.0, 0.34, 0.5, 1.0]),
)
def test_no_history_makes_an_outage(
    events: list[tuple[str, str, float]], models: dict[str, set[str]], ratio: float
) -> None:
    board = make_board(max_ejected_ratio=ratio, min_requests=5)
    states: dict[str, BreakerState] = {}
    now = 0.0
    for endpoint_id, what, gap in events:
        now += gap
        match what:
            case "s":
                board.success(endpoint_id, now)
            case "f":
                board.failure(endpoint_id, now)
            case "b":
                board.begin(endpoint_id, now)
            case "a":
                board.abandon(endpoint_id, now)
            case "h":
                board.healthy(endpoint_id, now)
            case "u":
                board.unhealthy(endpoint_id)
            case "x":
                board.forget(endpoint_id)
        # A listener that hears only of changes always knows the states.
        for changed in board.changed(now):
            states[changed] = board.state(changed, now)
        for each in "abcd":
            assert states.get(each, CLOSED) is board.state(each, now)
        effective = board.effective_states(models, now)
        for members in models.values():
            out = [each for each in members if effective.get(each, CLOSED) is not CLOSED]
            assert len(out) <= min(len(members) - 1, ratio * len(members))
    # Never stuck: by time alone every breaker lets a request through again.
    for each in "abcd":
        assert board.state(each, now + 8.0 + PROBE_LEASE_S) is not OPEN


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"consecutive_failures": 0}, "consecutive_failures"),
        ({"min_requests": 0}, "min_requests"),
        ({"failure_ratio": 0.0}, "failure_ratio"),
        ({"failure_ratio": 1.5}, "failure_ratio"),
        ({"open_s": 0.0}, "open_s"),
        ({"open_s": 9.0}, "max_open_s"),
        ({"max_ejected_ratio": 1.1}, "max_ejected_ratio"),
        ({"window_s": 0.0}, "window_s"),
    ],
)
def test_settings_are_checked(settings: dict[str, float], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        make_board(**settings)
