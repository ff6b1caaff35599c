from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.router.core.rate_limit import (
    FIRST_LEASE_SHARE,
    Limits,
    RateLimiter,
    Refusal,
    duration,
    ratelimit_lines,
)


def num_taken(
    limiter: RateLimiter, limits: Limits, *, key: str = "k", tokens: int = 0, now: float = 0.0
) -> int:
    """How many requests pass at once."""
    count = 0
    while limiter.try_take(key, limits, tokens, now) is None:
        count += 1
        assert count < 10_000
    return count


def test_a_key_without_limits_costs_nothing_and_leaves_nothing() -> None:
    limiter = RateLimiter()
    assert limiter.try_take("k", Limits(), 1_000_000, 0.0) is None
    limiter.settle("k", 1_000_000, 5, 1.0)
    limiter.release("k")
    assert len(limiter._entries) == 0
    assert limiter.consumed_since() == {}


def test_requests_a_minute() -> None:
    limiter, limits = RateLimiter(), Limits(requests_per_minute=60)
    assert num_taken(limiter, limits) == 60
    assert limiter.try_take("k", limits, 0, 0.25) == Refusal("requests", 0.75, 60)
    assert num_taken(limiter, limits, now=10.0) == 10
    assert num_taken(limiter, limits, now=1e6) == 60
    assert num_taken(limiter, limits, key="other") == 60


def test_tokens_a_minute() -> None:
    limiter, limits = RateLimiter(), Limits(tokens_per_minute=6000)
    assert num_taken(limiter, limits, tokens=1700) == 3
    assert limiter.try_take("k", limits, 1700, 0.0) == Refusal("tokens", 8.0, 6000)
    assert limiter.try_take("k", limits, 900, 0.0) is None  # a smaller one fits


def test_more_tokens_than_the_limit_will_never_fit() -> None:
    limiter = RateLimiter()
    refusal = limiter.try_take("k", Limits(tokens_per_minute=100), 101, 0.0)
    assert refusal == Refusal("too_large", None, 100)


def test_a_refused_request_takes_nothing() -> None:
    limiter, limits = RateLimiter(), Limits(2, 100, 2)
    assert limiter.try_take("k", limits, 90, 0.0) is None
    for _ in range(5):
        assert limiter.try_take("k", limits, 90, 0.0) == Refusal("tokens", 48.0, 100)
    assert limiter.try_take("k", limits, 10, 0.0) is None
    assert limiter.consumed_since() == {"k": (2, 100)}


def test_requests_at_a_time() -> None:
    limiter, limits = RateLimiter(), Limits(max_parallel_requests=2)
    assert num_taken(limiter, limits) == 2
    assert limiter.try_take("k", limits, 0, 0.0) == Refusal("parallel", 1.0, 2)
    limiter.release("k")
    assert num_taken(limiter, limits) == 1
    for _ in range(5):
        limiter.release("k")  # never below none
    assert num_taken(limiter, limits) == 2


@pytest.mark.parametrize(("actual", "then"), [(100, 9), (1000, 0), (3000, 0)])
def test_an_estimate_is_settled(actual: int, then: int) -> None:
    limiter, limits = RateLimiter(), Limits(tokens_per_minute=1000)
    assert limiter.try_take("k", limits, 500, 0.0) is None
    limiter.settle("k", 500, actual, 0.0)
    assert limiter.consumed_since() == {"k": (1, actual)}
    assert num_taken(limiter, limits, tokens=100) == then


def test_a_debt_is_paid_first() -> None:
    limiter, limits = RateLimiter(), Limits(tokens_per_minute=600)
    limiter.try_take("k", limits, 600, 0.0)
    limiter.settle("k", 600, 1200, 0.0)
    assert limiter.try_take("k", limits, 100, 60.0) == Refusal("tokens", 10.0, 600)
    assert limiter.try_take("k", limits, 100, 70.0) is None


def test_settling_by_the_same_number_changes_nothing() -> None:
    limiter, limits = RateLimiter(), Limits(tokens_per_minute=600)
    limiter.try_take("k", limits, 600, 0.0)
    limiter.consumed_since()
    limiter.settle("k", 600, 600, 0.0)
    assert limiter.consumed_since() == {}


def test_limits_that_change_leave_what_was_used() -> None:
    limiter = RateLimiter()
    assert num_taken(limiter, Limits(60)) == 60
    assert num_taken(limiter, Limits(100)) == 40
    assert num_taken(limiter, Limits(10), now=1.0) == 0
    assert num_taken(limiter, Limits(0, 500), tokens=100, now=1.0) == 5
    assert num_taken(limiter, Limits(10, 500), tokens=0, now=2000.0) == 10


STEP = st.tuples(st.floats(0, 30), st.integers(0, 400), st.booleans())


@given(st.lists(STEP, max_size=80), st.integers(1, 50), st.integers(1, 1000))
def test_over_any_time_no_more_than_a_bucket_and_what_flowed_in(
    steps: list[tuple[float, int, bool]], per_minute: int, tokens_per_minute: int
) -> None:
    limiter, limits, now = RateLimiter(), Limits(per_minute, tokens_per_minute), 0.0
    passed: list[tuple[float, int]] = []
    for gap, tokens, _ in steps:
        now += gap
        if limiter.try_take("k", limits, tokens, now) is None:
            passed.append((now, tokens))
    for first in range(len(passed)):
        requests = used = 0
        for when, tokens in passed[first:]:
            requests, used = requests + 1, used + tokens
            minutes = 1 + (when - passed[first][0]) / 60
            assert requests <= per_minute * minutes + 1e-6
            assert used <= tokens_per_minute * minutes + 1e-6


@given(st.lists(STEP, max_size=60), st.integers(1, 4))
def test_never_more_at_a_time_and_retry_after_is_true(
    steps: list[tuple[float, int, bool]], most: int
) -> None:
    limiter, limits, now, running = RateLimiter(), Limits(20, 500, most), 0.0, 0
    for gap, tokens, ends in steps:
        now += gap
        if ends and running:
            limiter.release("k")
            running -= 1
        refusal = limiter.try_take("k", limits, tokens, now)
        if refusal is None:
            running += 1
        elif refusal.what in ("requests", "tokens"):
            assert refusal.retry_after_s is not None
            now += refusal.retry_after_s + 1e-6
            again = limiter.try_take("k", limits, tokens, now)
            # Not for the same reason: a request may still lack tokens when its turn has come.
            assert again is None or again.what != refusal.what
            running += again is None
        assert running <= most


# Processes of one machine.


def exchange(limiters: list[RateLimiter], now: float) -> None:
    for i, limiter in enumerate(limiters):
        consumed, parallel = limiter.consumed_since(), limiter.parallel_since()
        for other in limiters:
            if other is not limiter:
                other.absorb(consumed, now)
                other.absorb_parallel(i, parallel)


def test_what_one_process_lets_through_is_missing_in_the_other() -> None:
    one, other = limiters = [RateLimiter(), RateLimiter()]
    limits = Limits(60, 10_000)
    for limiter in limiters:
        limiter.try_take("k", limits, 100, 0.0)
    exchange(limiters, 0.0)
    for _ in range(40):
        one.try_take("k", limits, 100, 0.0)
    exchange(limiters, 0.0)
    assert num_taken(other, limits, tokens=100) == 18
    assert other.status("k", limits, 0.0).remaining_tokens == 10_000 - 6000


def test_a_key_that_moves_to_another_process_does_not_begin_anew() -> None:
    one, other = limiters = [RateLimiter(), RateLimiter()]
    limits = Limits(60, 0, 5)
    for i in range(4):
        assert num_taken(one, limits, now=i * 1.0) == 5
        for _ in range(5 if i < 3 else 3):
            one.release("k")
        exchange(limiters, i * 1.0)
    assert len(other._entries) == 0
    taken = num_taken(other, limits, now=4.0)
    assert taken == 3  # of 5 at a time, 2 run elsewhere
    for _ in range(taken):
        other.release("k")
    assert other.status("k", limits, 4.0).remaining_requests == 60 - 20 - 3


def test_requests_at_a_time_count_over_processes() -> None:
    one, other = limiters = [RateLimiter(), RateLimiter()]
    limits = Limits(max_parallel_requests=3)
    for limiter in limiters:
        assert limiter.try_take("k", limits, 0, 0.0) is None
    exchange(limiters, 0.0)
    assert num_taken(one, limits) == 1
    exchange(limiters, 0.0)
    assert num_taken(other, limits) == 0
    one.release("k")
    one.release("k")
    exchange(limiters, 0.0)
    assert num_taken(other, limits) == 2
    assert other.parallel_since() == {"k": 3}
    assert other.parallel_since() == {}


def test_a_process_that_ended_has_nothing_running() -> None:
    limiter, limits = RateLimiter(), Limits(max_parallel_requests=2)
    limiter.absorb_parallel(7, {"k": 2, "unseen": 1})
    limiter.absorb_parallel(8, {"stranger": 0})
    assert num_taken(limiter, limits) == 0
    limiter.absorb_parallel(7, {"k": 0, "unseen": 0})
    assert num_taken(limiter, limits) == 2
    assert num_taken(limiter, limits, key="unseen") == 2


# Bounds of memory.


def test_the_key_unused_for_longest_is_forgotten() -> None:
    limiter, limits = RateLimiter(max_keys=3), Limits(60, 0, 10)
    for key in ("a", "b", "c"):
        limiter.try_take(key, limits, 0, 0.0)
        limiter.release(key)
    limiter.try_take("a", limits, 0, 0.0)
    limiter.release("a")
    limiter.try_take("d", limits, 0, 0.0)
    assert len(limiter._entries) == 3
    assert [limiter.status(key, limits, 0.0).remaining_requests for key in "abcd"] == [
        58, 60, 59, 59,
    ]  # fmt: skip


def test_keys_with_running_requests_are_kept_unless_all_have_some() -> None:
    limiter, limits = RateLimiter(max_keys=2), Limits(max_parallel_requests=1)
    limiter.try_take("busy", limits, 0, 0.0)
    limiter.try_take("idle", limits, 0, 0.0)
    limiter.release("idle")
    limiter.try_take("c", limits, 0, 0.0)
    assert limiter.try_take("busy", limits, 0, 0.0) is not None
    limiter.try_take("d", limits, 0, 0.0)
    assert len(limiter._entries) == 2
    limiter.release("gone")  # a request of a key forgotten since
    assert set(limiter.parallel_since()) == {"busy", "idle", "c", "d"}


def test_strangers_are_bounded_too() -> None:
    limiter = RateLimiter(max_keys=2)
    limits = Limits(60)
    limiter.absorb({"a": (60, 0), "b": (60, 0), "c": (60, 0)}, 0.0)
    assert num_taken(limiter, limits, key="a") == 60
    assert num_taken(limiter, limits, key="b") == 0
    limiter.forget("c")
    assert num_taken(limiter, limits, key="c") == 60


def test_a_limiter_remembers_something() -> None:
    with pytest.raises(ValueError, match="max_keys"):
        RateLimiter(max_keys=0)


# Shared buckets: the exchange itself is in tests/router/limits.


def test_before_redis_has_been_asked_a_share_of_a_quarter_may_be_spent() -> None:
    limiter, limits = RateLimiter(), Limits(60, 6000)
    starved = []
    limiter.on_starved = lambda: starved.append(True)
    limiter.share(0.0)
    limiter.num_processes = 3
    assert num_taken(limiter, limits) == 60 * FIRST_LEASE_SHARE / 3
    assert len(starved) == 2  # asks when the key is new, and when the lease is spent
    refusal = limiter.try_take("k", limits, 0, 0.0)
    assert refusal == Refusal("requests", 0.0, 60)  # there is more in Redis: come again
    assert list(limiter.take_active()) == ["k"]


def test_a_request_larger_than_its_lease_runs_into_debt_once() -> None:
    limiter, limits = RateLimiter(), Limits(0, 6000)
    limiter.share(0.0)
    assert limiter.try_take("k", limits, 5000, 0.0) is None
    refusal = limiter.try_take("k", limits, 10, 0.0)
    assert refusal is not None
    assert refusal.what == "tokens"


def test_without_redis_a_key_has_what_was_left() -> None:
    limiter, limits = RateLimiter(), Limits(60, 6000, 5)
    for _ in range(3):
        limiter.try_take("k", limits, 100, 0.0)
    limiter.share(0.0)
    limiter.try_take("k", limits, 100, 0.0)
    limiter.absorb({"k": (9, 9)}, 0.0)  # Redis knows
    limiter.absorb_parallel(1, {"k": 1})
    status = limiter.status("k", limits, 0.0)
    assert (status.remaining_requests, status.remaining_tokens) == (56, 5600)
    limiter.unshare(0.0)
    status = limiter.status("k", limits, 0.0)
    assert (status.remaining_requests, status.remaining_tokens) == (56, 5600)
    assert num_taken(limiter, limits) == 0  # 4 here, 1 there


def test_redis_is_asked_once_about_what_was_used_since() -> None:
    limiter = RateLimiter()
    limiter.share(0.0)
    for _ in range(2):
        limiter.try_take("a", Limits(60), 0, 0.0)
        limiter.try_take("b", Limits(60), 0, 0.0)
    assert list(limiter.take_active()) == ["a", "b"]
    assert limiter.take_active() == {}


# Headers.


def test_headers_have_openais_names() -> None:
    limiter, limits = RateLimiter(), Limits(60, 150_000)
    limiter.try_take("k", limits, 1000, 0.0)
    assert ratelimit_lines(limiter.status("k", limits, 0.0)).split(b"\r\n") == [
        b"x-ratelimit-limit-requests: 60",
        b"x-ratelimit-remaining-requests: 59",
        b"x-ratelimit-reset-requests: 1s",
        b"x-ratelimit-limit-tokens: 150000",
        b"x-ratelimit-remaining-tokens: 149000",
        b"x-ratelimit-reset-tokens: 400ms",
        b"",
    ]


@pytest.mark.parametrize(
    ("limits", "names"),
    [(Limits(), 0), (Limits(60), 3), (Limits(0, 100), 3), (Limits(60, 100, 3), 6)],
)
def test_no_limit_no_header(limits: Limits, names: int) -> None:
    lines = ratelimit_lines(RateLimiter().status("k", limits, 0.0))
    assert lines.count(b"\r\n") == names


def test_in_debt_nothing_is_left() -> None:
    limiter, limits = RateLimiter(), Limits(0, 600)
    limiter.try_take("k", limits, 600, 0.0)
    limiter.settle("k", 600, 900, 0.0)
    status = limiter.status("k", limits, 0.0)
    assert (status.limit_tokens, status.remaining_tokens, status.reset_tokens_s) == (600, 0, 90.0)
    assert (status.limit_requests, status.remaining_requests) == (0, 0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"), (0.0004, "1ms"), (0.02, "20ms"), (0.9999, "1s"), (1.0, "1s"), (1.5, "1.5s"),
        (59.9999, "1m0s"), (60.0, "1m0s"), (360.0, "6m0s"), (61.25, "1m1.25s"), (3661.0, "1h1m1s"),
    ],
)  # fmt: skip
def test_durations_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.lists(st.floats(0, 1e5), min_size=2, max_size=20))
def test_longer_is_never_written_shorter(times: list[float]) -> None:
    def parse(text: str) -> float:
        units: dict[str, Any] = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
        total, number, rest = 0.0, "", text
        while rest:
            if rest[0].isdigit() or rest[0] == ".":
                number, rest = number + rest[0], rest[1:]
            else:
                unit = "ms" if rest.startswith("ms") else rest[0]
                total, number, rest = total + float(number) * units[unit], "", rest[len(unit) :]
        return total

    for shorter, longer in pairwise(sorted(times)):
        assert parse(duration(shorter)) <= parse(duration(longer)) + 1e-9
    assert all(seconds <= parse(duration(seconds)) + 1e-6 for seconds in times)
