"""Against a real Redis. The time of buckets is Redis's own, so limits here are high and slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from shoal.clock import MonotonicClock
from shoal.router.core.rate_limit import FIRST_LEASE_SHARE, Limits, RateLimiter
from shoal.router.limits import redis_limits
from shoal.router.limits.redis_limits import RedisLimits

from .conftest import RedisServer

CLOCK = MonotonicClock()
SLOW = Limits(requests_per_minute=60)
"""One flows in each second: tests that take less see a fixed number."""


@asynccontextmanager
async def routers(
    server: RedisServer, count: int, **options: Any
) -> AsyncIterator[list[RateLimiter]]:
    """So many processes that share their limits."""
    limiters = [RateLimiter() for _ in range(count)]
    shells = [
        RedisLimits(limiter, server.url, CLOCK, process_id=f"p{i}", **options)
        for i, limiter in enumerate(limiters)
    ]
    for shell in shells:
        await shell.start()
    for shell in shells:  # so that each knows of all
        await shell._try_exchange()
    try:
        yield limiters
    finally:
        for shell in shells:
            await shell.close()


def take(
    limiter: RateLimiter, limits: Limits, times: int, *, key: str = "k", tokens: int = 0
) -> int:
    """How many of `times` requests pass now."""
    return sum(limiter.try_take(key, limits, tokens, CLOCK.now()) is None for _ in range(times))


async def until(condition: Callable[[], bool], timeout_s: float = 40.0) -> None:
    deadline = CLOCK.now() + timeout_s
    while not condition():
        assert CLOCK.now() < deadline
        await asyncio.sleep(0.005)


async def take_until_refused_for(
    limiters: list[RateLimiter], limits: Limits, quiet_s: float, *, least: int, tokens: int = 0
) -> int:
    """Everything that passes, with every process asking as often as it can; `least` must."""
    count, quiet_since = 0, CLOCK.now()
    async with asyncio.timeout(40):
        while count < least or CLOCK.now() - quiet_since < quiet_s:
            for limiter in limiters:
                if passed := take(limiter, limits, 20, tokens=tokens):
                    count += passed
                    quiet_since = CLOCK.now()
            await asyncio.sleep(0.002)
    return count


def back_since(began: float) -> float:
    """Requests that `SLOW` gives back until now: one a second."""
    return CLOCK.now() - began


@pytest.mark.parametrize("count", [1, 2, 4])
async def test_together_they_never_exceed_the_limit_by_more_than_the_slack(
    redis: RedisServer, count: int
) -> None:
    began = CLOCK.now()
    limits = Limits(requests_per_minute=300)
    async with routers(redis, count) as limiters:
        passed = await take_until_refused_for(limiters, limits, 0.15, least=300)
        inflow = 300 * (CLOCK.now() - began) / 60
    slack = max(count, 300 * FIRST_LEASE_SHARE)
    assert passed <= 300 + inflow + slack


async def test_one_process_can_spend_the_whole_limit(redis: RedisServer) -> None:
    began = CLOCK.now()
    async with routers(redis, 3) as (one, _, _):
        passed = await take_until_refused_for([one], SLOW, 0.2, least=60)
        assert passed <= 62 + back_since(began)


async def test_tokens_are_shared_too(redis: RedisServer) -> None:
    limits = Limits(tokens_per_minute=60_000)
    began = CLOCK.now()
    async with routers(redis, 2) as limiters:
        passed = await take_until_refused_for(limiters, limits, 0.15, least=148, tokens=400)
        inflow = 1000 * (CLOCK.now() - began)
    slack = 60_000 * FIRST_LEASE_SHARE + 2 * 400
    assert passed * 400 <= 60_000 + inflow + slack


async def test_a_request_larger_than_a_lease_still_passes(redis: RedisServer) -> None:
    limits = Limits(tokens_per_minute=6000)
    async with routers(redis, 4) as (one, other, *_):
        assert take(one, limits, 1, tokens=5500) == 1
        await until(lambda: one._entries["k"].tokens >= 0)  # the debt is in Redis
        take(other, limits, 1)
        await until(lambda: other.status("k", limits, CLOCK.now()).remaining_tokens < 1500)
        assert take(other, limits, 1, tokens=5500) == 0


async def test_what_was_settled_later_counts(redis: RedisServer) -> None:
    limits = Limits(tokens_per_minute=6000)
    async with routers(redis, 2) as (one, other):
        assert take(one, limits, 1, tokens=100) == 1
        take(other, limits, 1, tokens=1)
        one.settle("k", 100, 5000, CLOCK.now())
        await until(lambda: one._entries["k"].tokens >= 0)
        take(other, limits, 1, tokens=1)
        await until(lambda: 0 < other.status("k", limits, CLOCK.now()).remaining_tokens < 1100)


async def test_an_idle_lease_goes_back_and_another_process_gets_it(redis: RedisServer) -> None:
    began = CLOCK.now()
    async with routers(redis, 2) as (one, other):
        assert take(one, SLOW, 1) == 1
        await until(lambda: one._entries["k"].is_idle)
        assert float(redis.run("HGET", "shoal:limits:key:k", "r").split(b"\r\n")[1]) >= 59
        passed = await take_until_refused_for([other], SLOW, 0.2, least=59)
        assert passed <= 61 + back_since(began)


async def test_requests_at_a_time_count_over_routers(redis: RedisServer) -> None:
    limits = Limits(max_parallel_requests=3)
    async with routers(redis, 2) as (one, other):
        assert take(one, limits, 2) == 2
        await until(lambda: redis.run("HGET", "shoal:limits:key:k", "p:p0") == b"$1\r\n2\r\n")
        assert take(other, limits, 1) == 1
        await until(lambda: other._entries["k"].peers_parallel == 2)
        assert take(other, limits, 1) == 0
        one.release("k")
        await until(lambda: take(other, limits, 1) == 1)


async def test_a_router_that_died_runs_nothing(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_limits, "PROCESS_LIFETIME_S", 0.3)
    limits = Limits(max_parallel_requests=2)
    dead = RateLimiter()
    shell = RedisLimits(dead, redis.url, CLOCK)
    await shell._try_exchange()
    take(dead, limits, 2)
    await shell._try_exchange()
    async with routers(redis, 1) as (alive,):
        take(alive, limits, 1)  # a new key: the first may pass
        await until(lambda: take(alive, limits, 1) == 0)
        for _ in range(2):
            alive.release("k")
        await until(lambda: take(alive, limits, 2) == 2)
    await shell._redis.aclose()


async def test_a_key_that_only_runs_is_shown_to_be_in_use(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_limits, "REFRESH_S", 0.05)
    limits = Limits(max_parallel_requests=3)
    async with routers(redis, 1, interval_s=0.02) as (limiter,):
        take(limiter, limits, 1)
        await until(lambda: limiter._entries["k"].is_idle)
        redis.run("DEL", "shoal:limits:key:k")
        await until(lambda: redis.run("HGET", "shoal:limits:key:k", "p:p0") == b"$1\r\n1\r\n")


async def test_limits_that_change_move_the_bucket(redis: RedisServer) -> None:
    began = CLOCK.now()
    async with routers(redis, 1) as (limiter,):
        passed = await take_until_refused_for([limiter], SLOW, 0.2, least=60)
        assert passed <= 62 + back_since(began)
        more = Limits(requests_per_minute=90)
        passed = await take_until_refused_for([limiter], more, 0.2, least=29)
        assert passed <= 33 + 1.5 * back_since(began)


async def test_nothing_is_asked_for_twice_and_idle_routers_only_show_they_live(
    redis: RedisServer,
) -> None:
    async with routers(redis, 1, interval_s=0.02) as (limiter,):
        take(limiter, SLOW, 1)
        await until(lambda: limiter._entries["k"].is_idle)
        before = redis.run("HGET", "shoal:limits:key:k", "at")
        await asyncio.sleep(0.1)
        assert redis.run("HGET", "shoal:limits:key:k", "at") == before


async def test_leases_go_back_at_the_end(redis: RedisServer) -> None:
    began = CLOCK.now()
    async with routers(redis, 2) as (one, other):
        take(one, SLOW, 5)
        take(other, SLOW, 5)
    level = float(redis.run("HGET", "shoal:limits:key:k", "r").split(b"\r\n")[1])
    assert 50 <= level <= 51 + back_since(began)


async def test_many_keys_in_several_calls(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_limits, "MAX_KEYS_PER_CALL", 7)
    async with routers(redis, 1) as (limiter,):
        for i in range(40):
            take(limiter, SLOW, 3, key=f"k{i}")
        await until(lambda: all(entry.is_idle for entry in limiter._entries.values()))
    assert redis.run("DBSIZE") == b":41\r\n"


async def test_without_redis_limits_are_local_with_one_warning_and_then_shared_again(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_limits, "RETRY_S", 0.02)
    with capture_logs() as logs:
        async with routers(redis, 1) as (limiter,):
            began = CLOCK.now()
            assert take(limiter, SLOW, 10) == 10
            await until(lambda: not limiter._active)
            redis.stop()
            await until(lambda: not limiter.is_shared)
            passed = await take_until_refused_for([limiter], SLOW, 0.1, least=50)
            assert passed <= 52 + back_since(began)
            await asyncio.sleep(0.1)  # several attempts
            redis.start()
            await until(lambda: limiter.is_shared)
            await take_until_refused_for([limiter], SLOW, 0.1, least=0)
    assert [log["event"] for log in logs] == ["limits.redis_lost", "limits.redis_back"]
    assert [log["log_level"] for log in logs] == ["warning", "info"]


async def test_a_router_starts_without_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = RateLimiter()
    shell = RedisLimits(limiter, "redis://127.0.0.1:1/0", CLOCK)
    with capture_logs() as logs:
        await shell.start()
        assert take(limiter, SLOW, 100) == 60
        await shell.close()
    assert [log["event"] for log in logs] == ["limits.redis_lost"]


async def test_a_redis_that_hangs_does_not_hold_up_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_limits, "TIMEOUT_S", 0.05)
    hung = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hung.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    shell = RedisLimits(RateLimiter(), f"redis://127.0.0.1:{port}/0", CLOCK)
    with capture_logs() as logs:
        await shell.start()
        await shell.close()
    assert [log["event"] for log in logs] == ["limits.redis_lost"]
    hung.set()
    server.close()
    await server.wait_closed()


async def test_close_before_start(redis: RedisServer) -> None:
    await RedisLimits(RateLimiter(), redis.url, CLOCK).close()
