"""Which modules are compiled, and what a compiled set is valid for."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import shoal

PACKAGE = Path(shoal.__file__).parent
"""The folder of `shoal`."""

_CORE = (
    "calmest", "circuit_breaker", "concurrency_limit", "cost", "endpoint_sets", "exact_index",
    "filters", "flow_queue", "model_table", "outliers", "pickers", "policies", "prefix_index",
    "profile", "rate_entry", "rate_limit", "recent_work", "retry_budget", "scorers",
    "session_hash", "ttft_model", "types", "window_count",
)  # fmt: skip
_PROXY = (
    "admission", "answer_head", "answers", "attempt", "client", "continuation", "dispatcher",
    "exchange", "experience", "fetch", "fleet_view", "gateway", "headers", "known_head", "outbox",
    "plain_chunk", "pool", "records", "relay", "request_reader", "response_head", "routes",
    "upstream", "usage_wish", "worker_message",
)  # fmt: skip
MODULES = (
    *(f"shoal.router.core.{name}" for name in _CORE),
    *(f"shoal.router.proxy.{name}" for name in _PROXY),
    "shoal.router.access.principal",
    "shoal.router.failover.preparation",
    "shoal.router.failover.recorder",
    "shoal.router.prefix_hash",
    "shoal.router.telemetry.metrics",
    "shoal.router.telemetry.traceparent",
    "shoal.router.telemetry.usage",
)
"""What a request passes through. Not among them: modules with msgspec structs, whose class
arguments mypyc does not pass on."""


def source(module: str) -> Path:
    """The file of a module."""
    return PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")


def compiled_set(cache: Path) -> Path:
    """The folder of the compiled set for these sources and this Python; it need not be there.

    Every source of the router and of what is below it counts: classes are laid out by what they
    inherit and hold.
    """
    digest = hashlib.sha256(sys.version.encode())
    for file in sorted([*PACKAGE.glob("*.py"), *(PACKAGE / "router").rglob("*.py")]):
        digest.update(file.read_bytes())
    return cache / "router" / digest.hexdigest()[:16]
