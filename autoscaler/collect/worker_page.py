"""What a worker's metrics page says: counters that grow, and numbers of the moment. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shoal import metrics as names
from shoal.metrics import Sample
from shoal.metrics_page import samples_of, values_of

from .buckets import counts_of

PROMPT: Final = "prompt_tokens"
CACHED: Final = "cached_tokens"
GENERATED: Final = "generated_tokens"
FINISHED: Final = "finished"
GAP_SECONDS: Final = "token_gap_seconds"
_COUNTERS: Final = (
    (PROMPT, names.PROMPT_TOKENS, ""),
    (CACHED, names.PREFIX_CACHE_HITS, ""),
    (CACHED, names.EXTERNAL_PREFIX_CACHE_HITS, ""),
    (GENERATED, names.GENERATION_TOKENS, ""),
    (FINISHED, names.REQUEST_SUCCESS, ""),
    (GAP_SECONDS, names.INTER_TOKEN_LATENCY, "_sum"),
)
"""Ours, theirs, and which sample of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPage:
    """One worker, now."""

    counts: dict[str, float]
    started: float | None
    """Unix time at which its process started."""
    num_running: float | None
    num_waiting: float | None
    kv_usage: float | None
    """In [0, 1]; of several engines in one worker the fullest."""
    has_gaps: bool
    """Whether it measures the time between tokens."""


def read_worker(page: bytes) -> WorkerPage | None:
    """None: this is not the page of a worker. Lines of several engines add up."""
    running = _values(page, names.NUM_REQUESTS_RUNNING)
    counts: dict[str, float] = {}
    for counter, name, suffix in _COUNTERS:
        if samples := _samples(page, name, suffix):
            counts[counter] = counts.get(counter, 0.0) + sum(s.value for s in samples)
    if not running and not counts:
        return None
    counts |= counts_of(_samples(page, names.TIME_TO_FIRST_TOKEN, "_bucket"))
    waiting = _values(page, names.NUM_REQUESTS_WAITING)
    usage = _values(page, names.KV_CACHE_USAGE_PERC)
    started = _values(page, names.PROCESS_START_TIME)
    return WorkerPage(
        counts=counts,
        started=started[0] if started else None,
        num_running=sum(running) if running else None,
        num_waiting=sum(waiting) if waiting else None,
        kv_usage=min(max(*usage, 0.0), 1.0) if usage else None,
        has_gaps=GAP_SECONDS in counts,
    )


def _samples(page: bytes, name: str, suffix: str) -> list[Sample]:
    for spelling in (name, *names.ALIASES.get(name, ())):
        if samples := samples_of(page, spelling + suffix):
            return samples
    return []


def _values(page: bytes, name: str) -> list[float]:
    for spelling in (name, *names.ALIASES.get(name, ())):
        if values := values_of(page, spelling.encode()):
            return values
    return []
