"""What the scheduler can say about itself at any moment."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class PrefixCacheHits:
    """Counters of prompt tokens, in vLLM's words: what is not on the device is external."""

    queries: int = 0
    hits: int = 0
    external_queries: int = 0
    external_hits: int = 0

    def count(self, num_tokens: int, *, num_found: int, num_on_host: int | None) -> None:
        """A request of `num_tokens` begins, of which `num_found` were found, so many of them in
        the host tier; None: there is none."""
        num_on_device = num_found - (num_on_host or 0)
        self.queries += num_tokens
        self.hits += num_on_device
        if num_on_host is not None:
            self.external_queries += num_tokens - num_on_device
            self.external_hits += num_on_host


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerStats:
    """Gauges of now, and counters since the start."""

    num_running: int = 0
    num_waiting: int = 0
    kv_cache_usage: float = 0.0
    """Share of blocks in use, in [0, 1]."""
    num_preemptions: int = 0
    prefix_cache_queries: int = 0
    """Prompt tokens looked up."""
    prefix_cache_hits: int = 0
    """Prompt tokens found on the device."""
    external_prefix_cache_queries: int = 0
    """Prompt tokens that were not, looked up in the host tier."""
    external_prefix_cache_hits: int = 0
    """Prompt tokens found there."""
    host_cache_usage: float = 0.0
    """Share of the host tier's blocks that hold something, in [0, 1]; 0 without a tier."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Decisions by `ReasonKind`."""


@dataclass(slots=True)
class SchedulerCounters:
    """What a scheduler has done since its start."""

    num_preemptions: int = 0
    prefix_cache: PrefixCacheHits = field(default_factory=PrefixCacheHits)
    reasons: Counter[str] = field(default_factory=Counter)
    """Decisions by `ReasonKind`."""

    def stats(
        self, *, num_running: int, num_waiting: int, kv_cache_usage: float, host_cache_usage: float
    ) -> SchedulerStats:
        """These counters beside the gauges of now."""
        return SchedulerStats(
            num_running=num_running,
            num_waiting=num_waiting,
            kv_cache_usage=kv_cache_usage,
            num_preemptions=self.num_preemptions,
            prefix_cache_queries=self.prefix_cache.queries,
            prefix_cache_hits=self.prefix_cache.hits,
            external_prefix_cache_queries=self.prefix_cache.external_queries,
            external_prefix_cache_hits=self.prefix_cache.external_hits,
            host_cache_usage=host_cache_usage,
            reasons=dict(self.reasons),
        )
