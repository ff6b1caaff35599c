"""Limits that routers share: buckets in Redis, spent by leases, one round trip an exchange.

No request waits for Redis. Each process holds a lease of every key it has seen lately: an equal
part of what the bucket has left, taken out of it. Every `INTERVAL_S`, and at once when a lease
has run out, one script call gives back what is unspent and takes new leases (`exchange.lua`).

How exact that is: leases and bucket together never hold more than the limit. What may be spent
beside them is a first lease of keys that Redis has not been asked about, together a quarter of
the limit, and by each process one request that is larger than its lease; all of it is debt, taken
off at the next exchange. The bound on requests at a time is checked against counts up to
`INTERVAL_S` old.

Without Redis every machine keeps the limits by itself; one warning says so, and one line that it
is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from pathlib import Path

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from shoal.clock import Clock

from ..core.rate_entry import Entry, Grant
from ..core.rate_limit import RateLimiter

INTERVAL_S = 0.1
MIN_INTERVAL_S = 0.01
"""Between two exchanges, whoever asks for more."""
TIMEOUT_S = 1.0
RETRY_S = 1.0
"""Between attempts to reach a Redis that is gone."""
PROCESS_LIFETIME_S = 5.0
"""A process that was not heard for so long has no part in leases, and its requests do not
count."""
REFRESH_S = 30.0
"""How often a key with running requests and nothing else is shown to be in use."""
MAX_KEYS_PER_CALL = 64
"""The script holds up Redis: 50 us a key, measured on a busy machine."""
PREFIX = "shoal:limits:"

SCRIPT = (Path(__file__).parent / "exchange.lua").read_text(encoding="utf-8")

logger = structlog.get_logger(__name__)


class RedisLimits:
    """Keeps one `RateLimiter` in step with Redis. Own it, `start` it, `close` it."""

    def __init__(
        self,
        limiter: RateLimiter,
        redis_url: str,
        clock: Clock,
        *,
        interval_s: float = INTERVAL_S,
        process_id: str | None = None,
    ) -> None:
        self._limiter = limiter
        self._clock = clock
        self._interval_s = interval_s
        self._process_id = process_id or uuid.uuid4().hex
        self._redis: Redis = Redis.from_url(
            redis_url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            # Never twice: an exchange that was executed and not heard of must not be repeated.
            retry=Retry(NoBackoff(), 0),
        )
        self._script = self._redis.register_script(SCRIPT)
        self._leased: dict[str, tuple[Entry, float]] = {}
        """Entries with a lease or running requests, and when Redis was last told of them."""
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False
        self._was_warned = False
        self.num_exchanges = 0

    async def start(self) -> None:
        """Make the first exchange (within `TIMEOUT_S`), then keep going in the background."""
        self._limiter.on_starved = self._wanted.set
        await self._try_exchange()
        self._task = asyncio.create_task(self._run(), name="redis-limits")

    async def close(self) -> None:
        """Give every lease back, if Redis is there to take it. Takes `TIMEOUT_S` twice at most."""
        self._limiter.on_starved = None
        if self._task is not None:
            # Asked to end, not cancelled: an exchange cut off half-way may have been executed.
            self._is_closing = True
            self._wanted.set()
            await self._task
            self._task = None
        if self._limiter.is_shared:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                await self._exchange(is_closing=True)
            self._limiter.unshare(self._clock.now())
        await self._redis.aclose()

    async def _run(self) -> None:
        while True:
            wait_s = self._interval_s if self._limiter.is_shared else RETRY_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wanted.wait()
            if self._is_closing:
                return
            self._wanted.clear()
            await self._try_exchange()
            await asyncio.sleep(MIN_INTERVAL_S)

    async def _try_exchange(self) -> None:
        try:
            await self._exchange()
        except (RedisError, OSError, TimeoutError) as error:
            if self._limiter.is_shared:
                self._limiter.unshare(self._clock.now())
                self._leased.clear()
            if not self._was_warned:
                self._was_warned = True
                logger.warning(
                    "limits.redis_lost",
                    error=f"{type(error).__name__}: {error}",
                    consequence="limits hold for each machine alone until Redis is back",
                )
            return
        if self._was_warned:
            self._was_warned = False
            logger.info("limits.redis_back")

    async def _exchange(self, *, is_closing: bool = False) -> None:
        """Tell Redis of every entry there is something to tell of, in calls of bounded size."""
        if not self._limiter.is_shared:
            await self._call([], wants=lambda _: False)  # is it there?
            self._limiter.share(self._clock.now())
            return
        now = self._clock.now()
        active = self._limiter.take_active()
        unused = [
            entry
            for key_id, (entry, told_at) in self._leased.items()
            if key_id not in active
            and (is_closing or not entry.is_idle or now - told_at >= REFRESH_S)
        ]
        told = [*active.values(), *unused]
        for first in range(0, max(1, len(told)), MAX_KEYS_PER_CALL):
            await self._call(
                told[first : first + MAX_KEYS_PER_CALL],
                wants=lambda entry: not is_closing and entry.key_id in active,
                is_closing=is_closing,
            )

    async def _call(
        self, entries: list[Entry], *, wants: Callable[[Entry], bool], is_closing: bool = False
    ) -> None:
        keys = [f"{PREFIX}processes"]
        arguments: list[str | int | float] = [self._process_id, PROCESS_LIFETIME_S]
        unspent = []
        wanted = [wants(entry) for entry in entries]
        for entry, wants_lease in zip(entries, wanted, strict=True):
            limits = entry.limits
            back = entry.unspent()
            unspent.append(back)
            keys.append(f"{PREFIX}key:{entry.key_id}")
            arguments += (
                limits.requests_per_minute, limits.tokens_per_minute, back.requests, back.tokens,
                0 if is_closing else entry.parallel, limits.max_parallel_requests, int(wants_lease),
            )  # fmt: skip
        async with asyncio.timeout(TIMEOUT_S):
            reply = [float(number) for number in await self._script(keys, arguments)]
        self.num_exchanges += 1
        self._limiter.num_processes = max(1, int(reply[0]))
        now = self._clock.now()
        numbers = iter(reply[1:])
        for entry, back, wants_lease in zip(entries, unspent, wanted, strict=True):
            grant = Grant(
                requests=next(numbers), tokens=next(numbers),
                left_requests=next(numbers), left_tokens=next(numbers),
                parallel_elsewhere=int(next(numbers)),
            )  # fmt: skip
            entry.settle_lease(back, grant, now, wants_lease=wants_lease)
            if wants_lease or entry.parallel:
                self._leased[entry.key_id] = (entry, now)
            else:
                self._leased.pop(entry.key_id, None)
