"""Queues, limits, health and breakers."""

from __future__ import annotations

from typing import Annotated

import msgspec

from shoal.settings.ranges import Count, CountOrZero, Ratio, Seconds, SecondsOrZero, Text


class BandConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One priority band of the queue."""

    name: Text
    priority: Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
    """Lower is served first, as in vLLM. A request's `priority` field or its key picks the band:
    the first whose number is not below it."""
    max_queued: CountOrZero = 1024
    deadline_s: Seconds = 30.0
    """Longest wait, then 503."""


class FlowControlConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What happens when every worker is full."""

    bands: tuple[BandConfig, ...] = (
        BandConfig(name="interactive", priority=0),
        BandConfig(name="batch", priority=100, max_queued=4096, deadline_s=600.0),
    )
    adaptive_concurrency: bool = True
    """Learn from latency how many requests each worker takes at once; else `max_concurrency`."""
    min_concurrency: Count = 4
    max_concurrency: Count = 4096
    """Requests one worker may have at once, whatever was learnt."""
    hold_without_endpoint_s: SecondsOrZero = 60.0
    """Scale from zero: longest wait for a model that has no worker."""
    max_held: CountOrZero = 1024
    """Requests held for one such model."""

    def __post_init__(self) -> None:
        if not self.bands:
            raise ValueError("bands needs at least one band")
        for what, values in (
            ("name", [band.name for band in self.bands]),
            ("priority", [band.priority for band in self.bands]),
        ):
            if len(set(values)) < len(values):
                raise ValueError(f"bands: each needs its own {what}, got {values}")
        if self.min_concurrency > self.max_concurrency:
            raise ValueError(
                f"min_concurrency ({self.min_concurrency}) is above "
                f"max_concurrency ({self.max_concurrency})"
            )


class HealthConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Active checks, each second unless told."""

    path: Annotated[str, msgspec.Meta(pattern=r"^/[!-~]*$")] = "/health"
    interval_s: Seconds = 1.0
    timeout_s: Seconds = 1.0
    failures: Count = 2
    """In a row, before an endpoint is unhealthy."""
    scrape_interval_s: Seconds = 1.0


class BreakerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Passive checks: what happened to real requests. 4xx, 429 and 503 are no failures."""

    consecutive_failures: Count = 5
    failure_ratio: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    """Over the last `window_s`, with at least `min_requests`."""
    min_requests: Count = 20
    window_s: Seconds = 10.0
    open_s: Seconds = 0.5
    """First time out; doubles with every failed probe up to `max_open_s`."""
    max_open_s: Seconds = 8.0
    max_ejected_ratio: Ratio = 0.5
    """Of the endpoints of a model; the last one is never ejected."""

    def __post_init__(self) -> None:
        if self.open_s > self.max_open_s:
            raise ValueError(f"open_s ({self.open_s}) is above max_open_s ({self.max_open_s})")


class LimitsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Defaults for keys that say nothing of their own; 0 is no limit."""

    requests_per_minute: CountOrZero = 0
    tokens_per_minute: CountOrZero = 0
    """Prompt and answer together. Uncached prompt tokens count fully, cached ones not at all."""
    max_parallel_requests: CountOrZero = 0
    redis_url: Annotated[str, msgspec.Meta(pattern=r"^(rediss?|unix)://")] | None = None
    """Shared by the routers that name it, for example redis://127.0.0.1:6379/0."""
