"""Limits of each key: requests and tokens per minute, and requests at a time.

Two token buckets a key. A bucket holds a minute's worth and fills at that rate, so over any t
seconds at most `limit * (1 + t / 60)` pass. Tokens are taken by estimate at the start and settled
at the end; an answer longer than its estimate leaves a debt that is paid before the next request.

Routers that share Redis work on *leases* (`router/limits/redis_limits.py`): the bucket is in
Redis, and a limiter spends what it was granted out of it. `is_shared` says which of the two
holds.

Processes of one machine tell each other what they used (`consumed_since`, `absorb`). A burst that
hits them all within one exchange can pass several times; it is in the buckets, as debt, right
after.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil
from typing import Final, NamedTuple

from .rate_entry import Entry, Stranger

FIRST_LEASE_SHARE: Final = 0.25
"""Of a full bucket: what all processes together may spend of a key before Redis has granted it."""
PARALLEL_RETRY_S: Final = 1.0
MAX_SECOND_CHANCES: Final = 64


class Limits(NamedTuple):
    """Of one key; 0 is no limit."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    max_parallel_requests: int = 0


class Refusal(NamedTuple):
    """Why a request is over its limits: a 429, as a value."""

    what: str
    """"requests", "tokens", "parallel"; or "too_large": more tokens than a full bucket holds."""
    retry_after_s: float | None
    """None: never, it must be made smaller."""
    limit: int


class LimitStatus:
    """What the x-ratelimit headers say. A limit of 0: there is none, and no header."""

    __slots__ = (
        "limit_requests", "limit_tokens", "remaining_requests", "remaining_tokens",
        "reset_requests_s", "reset_tokens_s",
    )  # fmt: skip

    def __init__(self, limits: Limits, requests: float, tokens: float) -> None:
        """`requests`, `tokens`: what is left; below 0 in debt."""
        per_minute, tokens_per_minute, _ = limits
        self.limit_requests: Final = per_minute
        self.remaining_requests: Final = max(0, int(requests))
        self.reset_requests_s: Final = _time_for(per_minute - requests, per_minute)
        """Until the bucket is full again."""
        self.limit_tokens: Final = tokens_per_minute
        self.remaining_tokens: Final = max(0, int(tokens))
        self.reset_tokens_s: Final = _time_for(tokens_per_minute - tokens, tokens_per_minute)


class RateLimiter:
    """All keys of a process: 1 to 2 us a request, nothing for a key without limits."""

    def __init__(self, *, max_keys: int = 65_536) -> None:
        if max_keys < 1:
            raise ValueError(f"max_keys must be 1 or more, got {max_keys}")
        self._max_keys = max_keys
        self._entries: dict[str, Entry] = {}
        self._strangers: dict[str, Stranger] = {}
        self._consumed: dict[str, tuple[int, int]] = {}
        self._parallel_changed: set[str] = set()
        self._active: dict[str, Entry] = {}
        """Used since Redis was last asked about them."""
        self.is_shared = False
        """The buckets are in Redis, and what entries hold are leases."""
        self.num_processes = 1
        """That share them."""
        self.on_starved: Callable[[], None] | None = None
        """Called when a lease has run out: ask Redis now rather than at the next turn."""

    def try_take(self, key_id: str, limits: Limits, tokens: int, now: float) -> Refusal | None:
        """Take one request of `tokens` (estimated) out of the key's limits; None: it may run.

        A request that may run ends with `settle` (its real tokens) and `release`. One that is
        refused has taken nothing.
        """
        per_minute, tokens_per_minute, max_parallel = limits
        if not (per_minute or tokens_per_minute or max_parallel):
            return None
        entry = self._entries.get(key_id)
        if entry is None:
            entry = self._add(key_id, limits, now)
        else:
            entry.is_used = True
            if entry.limits is not limits and entry.limits != limits:
                entry.change_limits(limits)
            if not entry.is_shared:
                entry.refill(now)
        if entry.is_idle:
            self._begin_lease(entry, now)
        if max_parallel and entry.parallel + entry.peers_parallel >= max_parallel:
            return Refusal("parallel", PARALLEL_RETRY_S, max_parallel)
        if per_minute and entry.requests < 1.0:
            return self._refuse(entry, "requests", 1.0, per_minute)
        if tokens_per_minute and entry.tokens < tokens:
            if tokens > tokens_per_minute:
                return Refusal("too_large", None, tokens_per_minute)
            # A lease is a part of the bucket: a request larger than it may run into debt, once.
            if entry.tokens <= 0 or entry.tokens + entry.shared_tokens < tokens:
                return self._refuse(entry, "tokens", tokens, tokens_per_minute)
        entry.use(1, tokens)
        if max_parallel:
            entry.parallel += 1
            self._parallel_changed.add(key_id)
        self._note(key_id, entry, 1, tokens)
        return None

    def settle(self, key_id: str, estimated: int, actual: int, now: float) -> None:
        """The request took `actual` tokens, not `estimated`. Once a request; unknown keys are
        fine."""
        entry = self._entries.get(key_id)
        if entry is None or estimated == actual:
            return
        if not entry.is_shared:
            entry.refill(now)
        entry.use(0, actual - estimated)
        self._note(key_id, entry, 0, actual - estimated)

    def release(self, key_id: str) -> None:
        """The request has ended. Once for each that was let through."""
        entry = self._entries.get(key_id)
        if entry is not None and entry.parallel:
            entry.parallel -= 1
            self._parallel_changed.add(key_id)
            if self.is_shared:
                self._active[key_id] = entry

    def status(self, key_id: str, limits: Limits, now: float) -> LimitStatus:
        """What is left to the key now."""
        entry = self._entries.get(key_id)
        requests = float(limits.requests_per_minute)
        tokens = float(limits.tokens_per_minute)
        if entry is not None:
            if not entry.is_shared:
                entry.refill(now)
            requests = min(requests, entry.requests + entry.shared_requests)
            tokens = min(tokens, entry.tokens + entry.shared_tokens)
        return LimitStatus(limits, requests, tokens)

    # Between the processes of a machine.

    def consumed_since(self) -> dict[str, tuple[int, int]]:
        """Requests and tokens of each key since the last call: `PeerDelta.consumed`."""
        consumed, self._consumed = self._consumed, {}
        return consumed

    def absorb(self, consumed: Mapping[str, tuple[int, int]], now: float) -> None:
        """What another process let through."""
        for key_id, (requests, tokens) in consumed.items():
            entry = self._entries.get(key_id)
            if entry is None:
                stranger = self._stranger(key_id)
                stranger.requests.add(now, requests)
                stranger.tokens.add(now, tokens)
            elif not entry.is_shared:
                entry.refill(now)
                entry.use(requests, tokens)

    def parallel_since(self) -> dict[str, int]:
        """Requests running here, of keys where that changed since the last call."""
        changed, self._parallel_changed = self._parallel_changed, set()
        return {
            key_id: entry.parallel if (entry := self._entries.get(key_id)) else 0
            for key_id in changed
        }

    def absorb_parallel(self, process: int, parallel: Mapping[str, int]) -> None:
        """Requests that another process of the machine has running. A process that ended has 0."""
        for key_id, running in parallel.items():
            entry = self._entries.get(key_id)
            if entry is not None:
                entry.set_peer(process, running)
            elif running:
                self._stranger(key_id).peers[process] = running
            elif key_id in self._strangers:
                self._strangers[key_id].peers.pop(process, None)

    # With Redis.

    def share(self, now: float) -> None:
        """The buckets are in Redis from now on: every entry waits for a lease."""
        self.is_shared = True
        for entry in self._entries.values():
            entry.share(now)

    def unshare(self, now: float) -> None:
        """Redis is gone: every key has its whole limit here, from what it has left now."""
        self.is_shared = False
        self._active.clear()
        for entry in self._entries.values():
            entry.unshare(now)

    def take_active(self) -> dict[str, Entry]:
        """Entries used since the last call: Redis is to be asked about them."""
        active, self._active = self._active, {}
        return active

    # Keys.

    def forget(self, key_id: str) -> None:
        """The key is no more."""
        self._entries.pop(key_id, None)
        self._strangers.pop(key_id, None)

    def _note(self, key_id: str, entry: Entry, requests: int, tokens: int) -> None:
        before = self._consumed.get(key_id)
        if before is not None:
            requests += before[0]
            tokens += before[1]
        self._consumed[key_id] = (requests, tokens)
        if self.is_shared:
            self._active[key_id] = entry

    def _refuse(self, entry: Entry, what: str, needed: float, limit: int) -> Refusal:
        have = entry.requests if what == "requests" else entry.tokens
        if entry.is_shared:
            have += entry.shared_requests if what == "requests" else entry.shared_tokens
            self._active[entry.key_id] = entry
            if self.on_starved is not None:
                self.on_starved()
        return Refusal(what, max(0.0, needed - have) * 60.0 / limit, limit)

    def _add(self, key_id: str, limits: Limits, now: float) -> Entry:
        if len(self._entries) >= self._max_keys:
            self._evict()
        entry = self._entries[key_id] = Entry(key_id, limits, now)
        stranger = self._strangers.pop(key_id, None)
        if stranger is not None:
            entry.meet(stranger, now)
        if self.is_shared:
            entry.share(now)
        return entry

    def _begin_lease(self, entry: Entry, now: float) -> None:
        entry.begin_lease(FIRST_LEASE_SHARE / self.num_processes, now)
        self._active[entry.key_id] = entry
        if self.on_starved is not None:
            self.on_starved()

    def _stranger(self, key_id: str) -> Stranger:
        stranger = self._strangers.get(key_id)
        if stranger is None:
            if len(self._strangers) >= self._max_keys:
                del self._strangers[next(iter(self._strangers))]
            stranger = self._strangers[key_id] = Stranger()
        return stranger

    def _evict(self) -> None:
        """Forget the key unused for longest, about: second chance, as in a clock cache."""
        for _ in range(MAX_SECOND_CHANCES):
            key_id = next(iter(self._entries))
            entry = self._entries.pop(key_id)
            if not entry.is_used and not entry.parallel:
                break
            entry.is_used = False
            self._entries[key_id] = entry
        else:
            key_id = next(iter(self._entries))
            del self._entries[key_id]


def _time_for(missing: float, per_minute: int) -> float:
    return max(0.0, missing) * 60.0 / per_minute if per_minute else 0.0


def ratelimit_lines(status: LimitStatus) -> bytes:
    """Header lines in OpenAI's names and format: `x-ratelimit-reset-tokens: 6m0s`."""
    lines = ""
    if status.limit_requests:
        lines = (
            f"x-ratelimit-limit-requests: {status.limit_requests}\r\n"
            f"x-ratelimit-remaining-requests: {status.remaining_requests}\r\n"
            f"x-ratelimit-reset-requests: {duration(status.reset_requests_s)}\r\n"
        )
    if status.limit_tokens:
        lines += (
            f"x-ratelimit-limit-tokens: {status.limit_tokens}\r\n"
            f"x-ratelimit-remaining-tokens: {status.remaining_tokens}\r\n"
            f"x-ratelimit-reset-tokens: {duration(status.reset_tokens_s)}\r\n"
        )
    return lines.encode()


def duration(seconds: float) -> str:
    """As OpenAI writes it, rounded up: 0s, 20ms, 1s, 1.5s, 6m0s, 1h1m0s."""
    if seconds <= 0.0:
        return "0s"
    milliseconds = ceil(seconds * 1000.0 - 1e-6)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds > 0 else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    if not minutes:
        return f"{rest / 1000:g}s"
    hours, minutes = divmod(minutes, 60)
    tail = f"{minutes}m{rest / 1000:g}s"
    return f"{hours}h{tail}" if hours else tail
