"""Queues, limits, health and breakers."""

from __future__ import annotations

import msgspec


class BandConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One priority band of the queue."""

    name: str
    priority: int
    """Lower is served first, as in vLLM. A request's `priority` field or its key picks the band:
    the first whose number is not below it."""
    max_queued: int = 1024
    deadline_s: float = 30.0
    """Longest wait, then 503."""


class FlowControlConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What happens when every worker is full."""

    bands: tuple[BandConfig, ...] = (
        BandConfig(name="interactive", priority=0),
        BandConfig(name="batch", priority=100, max_queued=4096, deadline_s=600.0),
    )
    adaptive_concurrency: bool = True
    """Learn from latency how many requests each worker takes at once; else `max_concurrency`."""
    min_concurrency: int = 4
    max_concurrency: int = 4096
    """Requests one worker may have at once, whatever was learnt."""
    hold_without_endpoint_s: float = 60.0
    """Scale from zero: longest wait for a model that has no worker."""
    max_held: int = 1024
    """Requests held for one such model."""


class HealthConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Active checks, each second unless told."""

    path: str = "/health"
    interval_s: float = 1.0
    timeout_s: float = 1.0
    failures: int = 2
    """In a row, before an endpoint is unhealthy."""
    scrape_interval_s: float = 1.0


class BreakerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Passive checks: what happened to real requests. 4xx, 429 and 503 are no failures."""

    consecutive_failures: int = 5
    failure_ratio: float = 0.5
    """Over the last `window_s`, with at least `min_requests`."""
    min_requests: int = 20
    window_s: float = 10.0
    open_s: float = 0.5
    """First time out; doubles with every failed probe up to `max_open_s`."""
    max_open_s: float = 8.0
    max_ejected_ratio: float = 0.5
    """Of the endpoints of a model; the last one is never ejected."""


class LimitsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Defaults for keys that say nothing of their own; 0 is no limit."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    """Prompt and answer together. Uncached prompt tokens count fully, cached ones not at all."""
    max_parallel_requests: int = 0
    redis_url: str | None = None
    """Shared by the routers that name it, for example redis://127.0.0.1:6379/0."""
