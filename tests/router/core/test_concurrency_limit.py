"""Against a simulated worker: `num_slots` requests run, the rest wait in it, in order."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from statistics import mean
from typing import NamedTuple

import pytest

from shoal.router.core.concurrency_limit import ConcurrencyLimit

PREFILL_TOKENS_PER_S = 8_000.0


class Run(NamedTuple):
    """What a simulation showed, second by second."""

    limits: list[int]
    in_flight: list[int]
    finished: int
    mean_ttft_s: float


def simulate(
    concurrency: ConcurrencyLimit,
    *,
    seconds: float,
    demand: Callable[[float], int],
    num_slots: int = 32,
    decode_s: float = 2.0,
    slowdown: float = 0.0,
    prompt_tokens: Callable[[random.Random], int] = lambda rng: 500,
    mistaken_cache: float = 0.0,
    scrapes: bool = False,
    seed: int = 0,
) -> Run:
    """One worker, and clients that keep `demand(now)` requests at it as far as the limit lets them.

    TTFT = wait for a slot + prefill, which each running request slows by `slowdown`. A share
    `mistaken_cache` of the prompts is cached though the router thinks that they are not.
    """
    rng = random.Random(seed)
    events: list[tuple[float, int, str, tuple[float, int, int]]] = []
    waiting: deque[tuple[float, int, int]] = deque()
    running = in_flight = finished = number = 0
    limits, flights, ttfts = [], [], []

    def push(when: float, what: str, request: tuple[float, int, int] = (0.0, 0, 0)) -> None:
        nonlocal number
        number += 1
        heapq.heappush(events, (when, number, what, request))

    def start(now: float, request: tuple[float, int, int]) -> None:
        nonlocal running
        running += 1
        cached = rng.random() < mistaken_cache
        prefill_s = 0.01 + (0 if cached else request[1]) / PREFILL_TOKENS_PER_S
        prefill_s *= (1 + slowdown * running) * rng.uniform(0.8, 1.3)
        push(now + prefill_s, "token", request)
        push(now + prefill_s + decode_s * rng.uniform(0.5, 1.5), "end", request)

    push(0.0, "tick")
    while events:
        now, _, what, request = heapq.heappop(events)
        if now > seconds:
            break
        if what == "tick":
            limits.append(concurrency.limit("w"))
            flights.append(in_flight)
            if scrapes:
                concurrency.on_scrape("w", running, len(waiting), now)
            push(now + 1.0, "tick")
        elif what == "token":
            sent_at, tokens, seen = request
            ttfts.append(now - sent_at)
            concurrency.on_response("w", now - sent_at, tokens, seen, now)
        elif what == "end":
            running -= 1
            in_flight -= 1
            finished += 1
            if waiting:
                start(now, waiting.popleft())
        while in_flight < min(demand(now), concurrency.limit("w")):
            in_flight += 1
            new = (now, prompt_tokens(rng), in_flight)
            if running < num_slots:
                start(now, new)
            else:
                waiting.append(new)
    return Run(limits, flights, finished, mean(ttfts))


def long_and_short(rng: random.Random) -> int:
    """From 30 to 30,000 tokens: TTFT from 14 ms to 4 s on an idle worker."""
    return int(10 ** rng.uniform(1.5, 4.5))


def test_everything_is_let_through_until_something_is_learnt() -> None:
    assert ConcurrencyLimit(max_limit=512).limit("w") == 512


@pytest.mark.parametrize("crowd", [80, 300])
@pytest.mark.parametrize("scrapes", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_it_settles_near_where_queueing_starts(*, crowd: int, scrapes: bool, seed: int) -> None:
    def demand(now: float) -> int:
        return min(crowd, 4 + int(now * 2))  # it has known quiet times

    run = simulate(
        ConcurrencyLimit(), seconds=400, demand=demand, scrapes=scrapes, seed=seed, slowdown=0.01
    )
    settled = run.limits[-200:]
    assert 30 <= mean(settled) <= 46
    assert min(settled) >= 22
    # Nothing is lost by it: 32 slots are never idle for long.
    without = simulate(ConcurrencyLimit(min_limit=4096), seconds=400, demand=demand, seed=seed)
    assert run.finished >= 0.93 * without.finished


def test_a_crowd_at_a_cold_worker_is_brought_down() -> None:
    run = simulate(ConcurrencyLimit(), seconds=300, demand=lambda now: 400)
    assert run.in_flight[1] == 400
    assert 26 <= mean(run.limits[-100:]) <= 60


@pytest.mark.parametrize("slowdown", [0.0, 0.02, 0.05])
@pytest.mark.parametrize("mistaken_cache", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("seed", range(2))
def test_a_worker_with_room_is_never_limited_below_use(
    slowdown: float, mistaken_cache: float, seed: int
) -> None:
    """Prompts of all lengths, a batch that slows prefills, a cache we are wrong about."""
    run = simulate(
        ConcurrencyLimit(),
        seconds=300,
        demand=lambda now: 8 + int(16 * abs((now / 60) % 2 - 1)),  # 8 to 24 of 32
        prompt_tokens=long_and_short,
        slowdown=slowdown,
        mistaken_cache=mistaken_cache,
        seed=seed,
    )
    wanted = [8 + int(16 * abs((second / 60) % 2 - 1)) for second in range(len(run.limits))]
    assert all(limit >= want for limit, want in zip(run.limits, wanted, strict=True))


def test_scrapes_without_a_queue_vouch_for_a_slow_worker() -> None:
    concurrency = ConcurrencyLimit()
    for i in range(100):
        concurrency.on_response("w", 0.05, 100, 5, i * 0.1)
    for i in range(100, 200):
        if i % 10 == 0:
            concurrency.on_scrape("w", 20, 0, i * 0.1)
        concurrency.on_response("w", 5.0, 100, 20, i * 0.1)
    assert concurrency.limit("w") == 4096


def feed(
    concurrency: ConcurrencyLimit, ttft_s: float, in_flight: int, *, start: float, times: int = 20
) -> float:
    """Ten responses a second."""
    for i in range(times):
        concurrency.on_response("w", ttft_s, 100, in_flight, start + i * 0.1)
    return start + times * 0.1


def test_shrinking_starts_from_what_was_in_flight() -> None:
    concurrency = ConcurrencyLimit()
    now = feed(concurrency, 0.1, 10, start=0.0)
    feed(concurrency, 0.4, 40, start=now, times=23)
    assert concurrency.limit("w") == 37  # 40 x (3 x 0.1 / 0.4) ** 0.25


def test_a_stall_of_a_second_cuts_nothing() -> None:
    """The machine stood still, and every first token of that second was late."""
    concurrency = ConcurrencyLimit()
    now = feed(concurrency, 0.1, 10, start=0.0)
    for _ in range(5):
        now = feed(concurrency, 2.0, 40, start=now, times=10) + 1.0
        now = feed(concurrency, 0.1, 40, start=now, times=30)
    assert concurrency.limit("w") == 4096


def test_growing_needs_the_limit_to_be_reached() -> None:
    concurrency = ConcurrencyLimit()
    now = feed(concurrency, 0.1, 10, start=0.0)
    now = feed(concurrency, 0.4, 40, start=now, times=23) + 1.0
    now = feed(concurrency, 0.1, 36, start=now, times=40)
    assert concurrency.limit("w") == 37
    feed(concurrency, 0.1, 37, start=now, times=12)
    assert concurrency.limit("w") == 41


def test_what_was_sent_before_a_cut_does_not_cut_again() -> None:
    concurrency = ConcurrencyLimit()
    now = feed(concurrency, 0.1, 10, start=0.0)
    now = feed(concurrency, 2.0, 100, start=now, times=30)
    limit = concurrency.limit("w")
    feed(concurrency, 9.0, 100, start=now, times=50)
    assert concurrency.limit("w") == limit


def test_backpressure_cuts_at_once_and_once_a_second() -> None:
    concurrency = ConcurrencyLimit()
    for _ in range(9):
        concurrency.on_backpressure("w", 50, 0.0)
    assert concurrency.limit("w") == 40
    concurrency.on_backpressure("w", 40, 1.0)
    assert concurrency.limit("w") == 32


def test_bounds() -> None:
    concurrency = ConcurrencyLimit(min_limit=8, max_limit=32)
    concurrency.on_backpressure("w", 2, 0.0)
    assert concurrency.limit("w") == 8
    feed(concurrency, 0.1, 99, start=1.0, times=2000)
    assert concurrency.limit("w") == 32


def test_a_worker_that_runs_more_than_its_limit_gets_what_it_runs() -> None:
    concurrency = ConcurrencyLimit()
    concurrency.on_backpressure("w", 10, 0.0)
    concurrency.on_scrape("w", 24, 3, 1.0)
    assert concurrency.limit("w") == 24
    concurrency.on_scrape("never seen", 24, 3, 1.0)
    assert concurrency.limit("never seen") == 4096


def test_changes_are_told_and_forgotten_endpoints_are_new() -> None:
    told: list[tuple[str, int]] = []
    concurrency = ConcurrencyLimit(on_change=lambda *change: told.append(change))
    concurrency.on_backpressure("w", 10, 0.0)
    concurrency.on_backpressure("w", 4, 5.0)
    concurrency.on_backpressure("w", 4, 9.0)  # at the bound already
    assert told == [("w", 8), ("w", 4)]
    concurrency.forget("w")
    assert concurrency.limit("w") == 4096


@pytest.mark.parametrize(("min_limit", "max_limit"), [(0, 4), (5, 4)])
def test_settings_are_checked(min_limit: int, max_limit: int) -> None:
    with pytest.raises(ValueError, match="min_limit"):
        ConcurrencyLimit(min_limit=min_limit, max_limit=max_limit)
