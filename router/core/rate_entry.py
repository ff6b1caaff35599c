"""What a limiter knows of one key: two buckets, or two leases out of buckets in Redis."""

from __future__ import annotations

from typing import Protocol


class LimitsLike(Protocol):
    """`rate_limit.Limits`."""

    @property
    def requests_per_minute(self) -> int: ...
    @property
    def tokens_per_minute(self) -> int: ...
    @property
    def max_parallel_requests(self) -> int: ...


class Entry:
    """Numbers only; `RateLimiter` decides. Buckets are floats: they fill by fractions.

    Not leased: `requests` and `tokens` are the buckets, full at a minute's worth, below 0 in debt.
    Leased: they are what is left of the grant, and `granted_*` is what of that Redis knows of.
    """

    __slots__ = (
        "_peers", "granted_requests", "granted_tokens", "is_leased", "is_used", "key_id", "limits",
        "parallel", "peers_parallel", "requests", "shared_requests", "shared_tokens", "tokens",
        "updated_at",
    )  # fmt: skip

    def __init__(self, key_id: str, limits: LimitsLike, now: float) -> None:
        self.key_id = key_id
        self.limits = limits
        self.requests = float(limits.requests_per_minute)
        self.tokens = float(limits.tokens_per_minute)
        self.updated_at = now
        self.parallel = 0
        """Requests running, of this process."""
        self.peers_parallel = 0
        """Of all others."""
        self._peers: dict[int, int] | None = None
        self.is_used = False
        """Since `RateLimiter` last looked for a key to forget."""
        self.is_leased = False
        self.granted_requests = 0.0
        self.granted_tokens = 0.0
        self.shared_requests = 0.0
        """Left in Redis beside all leases, as last heard."""
        self.shared_tokens = 0.0

    def refill(self, now: float) -> None:
        """Add what has flowed in since the last time."""
        elapsed = now - self.updated_at
        if elapsed > 0:
            self.updated_at = now
            limit = self.limits.requests_per_minute
            requests = self.requests + elapsed * limit / 60.0
            self.requests = requests if requests < limit else float(limit)
            limit = self.limits.tokens_per_minute
            tokens = self.tokens + elapsed * limit / 60.0
            self.tokens = tokens if tokens < limit else float(limit)

    def change_limits(self, limits: LimitsLike) -> None:
        """After a reload. What was used stays used: a bucket moves by the difference."""
        self.requests += limits.requests_per_minute - self.limits.requests_per_minute
        self.tokens += limits.tokens_per_minute - self.limits.tokens_per_minute
        self.limits = limits

    def set_peer(self, process: int, running: int) -> None:
        """Requests that one other process has running."""
        peers = self._peers
        if peers is None:
            peers = self._peers = {}
        self.peers_parallel += running - peers.get(process, 0)
        if running:
            peers[process] = running
        else:
            peers.pop(process, None)

    def begin_lease(self, requests: float, tokens: float) -> None:
        """Spend so much before Redis has granted anything."""
        self.is_leased = True
        self.requests, self.tokens = requests, tokens
        self.granted_requests = requests
        self.granted_tokens = tokens

    def end_lease(self, now: float) -> None:
        """Back to a bucket of its own, which holds what was last known to be left."""
        if self.is_leased:
            self.is_leased = False
            self.requests += self.shared_requests
            self.tokens += self.shared_tokens
            self.shared_requests = self.shared_tokens = 0.0
            self.updated_at = now
