"""Snapshots, endpoints and samples, from a few words each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shoal import metrics as names
from shoal.router.console.samples import TTFT_EDGES, Sample, take
from shoal.router.telemetry.snapshot import Snapshot


def endpoint(name: str = "a", *models: str, **fields: Any) -> dict[str, Any]:
    return {
        "endpoint_id": name, "models": list(models or ("m",)), "status": "ready", "in_flight": 0,
        "cost_per_hour": 0.0, "kv_cache_usage": 0.0, **fields,
    }  # fmt: skip


def histogram(*seconds: float) -> list[float]:
    """Counts by bucket, and the sum, as a snapshot has it."""
    counts = [0.0] * (len(TTFT_EDGES) + 1)
    for each in seconds:
        counts[sum(edge < each for edge in TTFT_EDGES)] += 1
    return [*counts, sum(seconds)]


def snapshot(
    *,
    requests: Mapping[tuple[str, str], float] | None = None,
    tokens: Mapping[tuple[str, str], float] | None = None,
    ttft: Mapping[str, Sequence[float]] | None = None,
    queued: float = 0.0,
) -> Snapshot:
    """`requests` by model and code, `tokens` by model and kind, `ttft` seconds by model."""
    return {
        names.ROUTER_REQUESTS: dict(requests or {}),
        names.ROUTER_TOKENS: {(m, "t", kind): n for (m, kind), n in (tokens or {}).items()},
        names.ROUTER_TIME_TO_FIRST_TOKEN: {
            (model,): histogram(*seconds) for model, seconds in (ttft or {}).items()
        },
        names.ROUTER_QUEUED_REQUESTS: {("interactive",): queued, ("batch",): 1.0},
    }


def sample(time: float, span_s: float = 2.0, **counted: Any) -> Sample:
    """Of `snapshot(...)` compared with nothing; one ready endpoint of model m at a cost of 3.6."""
    endpoints = counted.pop("endpoints", [endpoint(cost_per_hour=3.6)])
    held = counted.pop("held", {})
    return take({}, snapshot(**counted), endpoints, held, time=time, span_s=span_s)
