"""The access log: one JSON object a request, written by a thread."""

from __future__ import annotations

import msgspec

from .line_log import LineLog


class AccessEntry(msgspec.Struct, gc=False, omit_defaults=True):
    """One request. Fields a client chose may be bytes: they are decoded and cut when written."""

    ts: float
    """Unix time of the request's first byte, seconds."""
    request_id: str | bytes
    method: str | bytes
    path: str | bytes
    """What follows `?` is not written: clients put keys there."""
    status: int
    duration_ms: float
    tenant: str = ""
    key_id: str = ""
    model: str = ""
    endpoint: str = ""
    """endpoint_id of the worker that answered (last)."""
    ttft_ms: float | None = None
    bytes_in: int = 0
    """Of the body."""
    bytes_out: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    queue_ms: float = 0.0
    attempts: int = 0
    """1: the first worker answered; 0: none was asked."""
    failovers: int = 0
    trace_id: str = ""
    error: str = ""
    """Machine-readable code of what went wrong."""


class AccessLog:
    """Owned by a data-plane process. `append` never blocks."""

    def __init__(self, target: str) -> None:
        """`target` is a file, or "-" for stderr. Raises ConfigError when it cannot be opened."""
        self._log = LineLog(target, format_line=format_entry)

    def append(self, entry: AccessEntry) -> None:
        self._log.append(entry)


def format_entry(entry: AccessEntry) -> bytes:
    raise NotImplementedError
