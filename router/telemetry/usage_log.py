"""The usage log: one JSON object of token counts a request, for billing."""

from __future__ import annotations

import msgspec

from .access_log import clean_text
from .line_log import LineLog

_MAX_PENDING = 131_072
"""20 MiB: money waits longer for a slow disk than an access log does."""
_encode_lines = msgspec.json.Encoder().encode_lines


class UsageEntry(msgspec.Struct, gc=False):
    """One request that a worker has counted."""

    ts: float
    """Unix time of the end of the answer, seconds."""
    key_id: str
    tenant: str
    model: str
    prompt: int
    """Tokens; the cached ones are among them."""
    cached: int
    completion: int
    cost: float
    request_id: str | bytes


def format_entries(entries: list[UsageEntry]) -> bytes:
    """One line each; the entries are changed on the way."""
    for entry in entries:
        entry.ts = round(entry.ts, 6)
        entry.cost = round(entry.cost, 9)
        entry.model = clean_text(entry.model)
        entry.request_id = clean_text(entry.request_id)
    return _encode_lines(entries)


def open_usage_log(target: str) -> LineLog[UsageEntry]:
    """`target` is `telemetry.usage_log`. Raises ConfigError when it cannot be opened."""
    return LineLog(target, format_batch=format_entries, max_pending=_MAX_PENDING)
