"""Answers to what the state process asks for people: metrics, decisions, connections."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ..telemetry.snapshot import to_plain

if TYPE_CHECKING:
    from .gateway import Gateway


def report(gateway: Gateway, what: str, limit: int) -> Any:
    """Plain data for a `Report`."""
    match what:
        case "metrics":
            return metrics(gateway)
        case "decisions":
            return decisions(gateway, limit)
        case "connections":
            return connections(gateway)
        case _:
            return None


def metrics(gateway: Gateway) -> Any:
    """The counters, with the gauges read now."""
    gateway.records.write()
    counters = gateway.metrics
    counters.connections_open = len(gateway.connections)
    now = gateway.now()
    counters.queued.replace(
        {band: depth.num_queued for band, depth in gateway.dispatcher.queue.depth(now).items()}
    )
    counters.model_queued.replace(gateway.dispatcher.queued_by_model())
    held = dict.fromkeys(gateway.fleet.models, 0)
    counters.held.replace(held | gateway.dispatcher.held_by_model())
    for endpoint_id, entry in gateway.fleet.entries.items():
        counters.endpoint(endpoint_id).in_flight = entry.own_in_flight
    return to_plain(counters.snapshot())


def decisions(gateway: Gateway, limit: int) -> list[dict[str, Any]]:
    """The latest, newest first."""
    offset = time.time() - gateway.now()
    latest = list(gateway.dispatcher.decisions)[-limit:]
    return [
        {
            "ts": noted.at + offset,
            "process": gateway.process,
            "request_id": noted.request_id.decode("latin-1"),
            "model": noted.model,
            "endpoint": None if decision.endpoint is None else decision.endpoint.endpoint_id,
            "policy": decision.policy,
            "reason": decision.reason,
            "num_cached_tokens": decision.num_cached_tokens,
            "rejected": dict(decision.rejected),
            "candidates": [
                {"endpoint": c.endpoint_id, "score": c.score, "reasons": dict(c.reasons)}
                for c in decision.candidates
            ],
        }
        for noted in reversed(latest)
        for decision in (noted.decision,)
    ]


def connections(gateway: Gateway) -> dict[str, Any]:
    """Who is connected, in numbers."""
    return {
        "process": gateway.process,
        "clients": len(gateway.connections),
        "clients_idle": sum(connection.is_idle for connection in gateway.connections),
        "clients_slow": sum(connection.paused for connection in gateway.connections),
        "attempts": len(gateway.attempts),
        "queued": len(gateway.dispatcher.queue),
        "pooled": {
            endpoint_id: entry.pool.num_idle for endpoint_id, entry in gateway.fleet.entries.items()
        },
    }
