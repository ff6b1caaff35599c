"""What a limiter knows of one key: two buckets, or two leases out of buckets in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .window_count import WindowCount

if TYPE_CHECKING:
    from .rate_limit import Limits


class Unspent(NamedTuple):
    """What an entry tells Redis, and what it held as it did."""

    requests: float
    tokens: float
    held_requests: float
    held_tokens: float
    ahead_requests: float
    ahead_tokens: float


class Grant(NamedTuple):
    """What Redis answers."""

    requests: float
    tokens: float
    left_requests: float
    left_tokens: float
    parallel_elsewhere: int


class Stranger:
    """A key that other processes use and this one has not seen: its limits are not known."""

    __slots__ = ("peers", "requests", "tokens")

    def __init__(self) -> None:
        self.requests = WindowCount(60.0)
        self.tokens = WindowCount(60.0)
        self.peers: dict[int, int] = {}


class Entry:
    """Numbers only; `RateLimiter` decides. Buckets are floats: they fill by fractions.

    By itself: `requests` and `tokens` are the buckets, full at a minute's worth, below 0 in debt.
    Shared (the buckets are in Redis): they are what is left of a lease. Of that `ahead_*` was
    spent or may be spent before Redis granted it; the rest is to be given back, or is the debt to
    report. A shared entry is idle while it has no lease.
    """

    __slots__ = (
        "_peers", "ahead_requests", "ahead_tokens", "is_idle", "is_shared", "is_used", "key_id",
        "limits", "max_requests", "max_tokens", "parallel", "peers_parallel", "requests",
        "shared_requests", "shared_tokens", "tokens", "updated_at",
    )  # fmt: skip

    def __init__(self, key_id: str, limits: Limits, now: float) -> None:
        self.key_id = key_id
        self.limits = limits
        self.max_requests = self.requests = float(limits.requests_per_minute)
        self.max_tokens = self.tokens = float(limits.tokens_per_minute)
        self.updated_at = now
        """Of the buckets, or of `shared_*`."""
        self.parallel = 0
        """Requests running, of this process."""
        self.peers_parallel = 0
        """Of all others: of the machine, or when shared of every router."""
        self._peers: dict[int, int] = {}
        self.is_used = False
        """Since `RateLimiter` last looked for a key to forget."""
        self.is_shared = False
        self.is_idle = False
        self.ahead_requests = 0.0
        self.ahead_tokens = 0.0
        self.shared_requests = 0.0
        """Left in Redis beside all leases, as last heard."""
        self.shared_tokens = 0.0

    def refill(self, now: float) -> None:
        """Add to the entry's own buckets what has flowed in since the last time."""
        elapsed = now - self.updated_at
        if elapsed > 0:
            self.updated_at = now
            most = self.max_requests
            requests = self.requests + elapsed * most / 60.0
            self.requests = requests if requests < most else most
            most = self.max_tokens
            tokens = self.tokens + elapsed * most / 60.0
            self.tokens = tokens if tokens < most else most

    def change_limits(self, limits: Limits) -> None:
        """After a reload. What was used stays used: a bucket moves by the difference.

        A lease is left as it is: Redis moves its bucket at the next exchange.
        """
        if not self.is_shared:
            self.requests += limits.requests_per_minute - self.limits.requests_per_minute
            self.tokens += limits.tokens_per_minute - self.limits.tokens_per_minute
        self.limits = limits
        self.max_requests = float(limits.requests_per_minute)
        self.max_tokens = float(limits.tokens_per_minute)

    def use(self, requests: int, tokens: int) -> None:
        """Take out, or with negative numbers put back; only where there is a limit."""
        if self.max_requests:
            self.requests -= requests
        if self.max_tokens:
            self.tokens -= tokens

    def set_peer(self, process: int, running: int) -> None:
        """Requests that one other process of the machine has running."""
        if running:
            self._peers[process] = running
        else:
            self._peers.pop(process, None)
        if not self.is_shared:
            self.peers_parallel = sum(self._peers.values())

    def meet(self, stranger: Stranger, now: float) -> None:
        """It was used elsewhere before: what of the last minute counts as used, none flowed in."""
        self.use(stranger.requests.count(now), stranger.tokens.count(now))
        self._peers = stranger.peers
        self.peers_parallel = sum(self._peers.values())

    # Leases.

    def share(self, now: float) -> None:
        """From now on the buckets are in Redis; what they hold there is guessed to be the same."""
        self.is_shared = self.is_idle = True
        self.shared_requests, self.shared_tokens = self.requests, self.tokens
        self.requests = self.tokens = self.ahead_requests = self.ahead_tokens = 0.0
        self.updated_at = now

    def unshare(self, now: float) -> None:
        """Back to buckets of its own, which hold what was last known to be left."""
        self.is_shared = self.is_idle = False
        self.requests += self.shared_requests
        self.tokens += self.shared_tokens
        self.shared_requests = self.shared_tokens = 0.0
        self.peers_parallel = sum(self._peers.values())
        self.updated_at = now

    def begin_lease(self, share: float, now: float) -> None:
        """Without asking: `share` of full buckets, or what is left in Redis if that is less."""
        self.is_idle = False
        elapsed = max(0.0, now - self.updated_at)
        limit = self.limits.requests_per_minute
        self.shared_requests = min(limit, self.shared_requests + elapsed * limit / 60.0)
        ahead = max(0.0, min(max(1.0, limit * share), self.shared_requests))
        self.requests += ahead
        self.ahead_requests += ahead
        self.shared_requests -= ahead
        limit = self.limits.tokens_per_minute
        self.shared_tokens = min(limit, self.shared_tokens + elapsed * limit / 60.0)
        ahead = max(0.0, min(max(1.0, limit * share), self.shared_tokens))
        self.tokens += ahead
        self.ahead_tokens += ahead
        self.shared_tokens -= ahead
        self.updated_at = now

    def unspent(self) -> Unspent:
        """What Redis gets back: below 0 if more was spent than it had granted."""
        return Unspent(
            self.requests - self.ahead_requests,
            self.tokens - self.ahead_tokens,
            self.requests,
            self.tokens,
            self.ahead_requests,
            self.ahead_tokens,
        )

    def settle_lease(self, back: Unspent, grant: Grant, now: float, *, wants_lease: bool) -> None:
        """Redis has taken `back` and given `grant`. What was spent in between comes off the
        grant."""
        self.requests += grant.requests - back.held_requests
        self.tokens += grant.tokens - back.held_tokens
        self.ahead_requests -= back.ahead_requests
        self.ahead_tokens -= back.ahead_tokens
        self.shared_requests = grant.left_requests
        self.shared_tokens = grant.left_tokens
        self.peers_parallel = grant.parallel_elsewhere
        self.updated_at = now
        # A lease that was begun while the answer was under way goes on.
        self.is_idle = not wants_lease and self.ahead_requests <= 0 and self.ahead_tokens <= 0
