"""What the scheduler can say about itself at any moment."""

from __future__ import annotations

from dataclasses import dataclass, field


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
    """Prompt tokens found."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Decisions by `ReasonKind`."""
