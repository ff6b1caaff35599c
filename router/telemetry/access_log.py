"""The access log: one JSON object a request. No prompts, no keys, no query strings."""

from __future__ import annotations

import msgspec

from .line_log import LineLog

_MAX_FIELD = 256
_encode_lines = msgspec.json.Encoder().encode_lines


class AccessEntry(msgspec.Struct, gc=False, omit_defaults=True):
    """One request. What a client chose may be bytes: it is decoded, escaped and cut when written.

    A field that has its default is left out of the line.
    """

    ts: float
    """Unix time of the request's first byte, seconds."""
    request_id: str | bytes
    method: str | bytes
    path: str | bytes
    """What follows `?` is not written: clients put keys there."""
    status: int
    """499: the client left before the answer."""
    duration_ms: float
    tenant: str = ""
    key_id: str = ""
    model: str = ""
    """As the client wrote it."""
    endpoint: str = ""
    """endpoint_id of the worker that answered last."""
    ttft_ms: float | None = None
    """To the first byte of the answer's body."""
    bytes_in: int = 0
    """Of the body."""
    bytes_out: int = 0
    """Of the body as the client was sent it, the framing of chunks included."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    queue_ms: float | None = None
    """None: it did not have to wait."""
    attempts: int = 0
    """1: the first worker answered; 0: none was asked."""
    failovers: int = 0
    trace_id: str = ""
    error: str = ""
    """Code of what went wrong: `RequestError.code`, or "client_closed"."""


def clean_text(text: str | bytes) -> str:
    """Nothing a terminal would obey, and not too much of it."""
    if isinstance(text, bytes):
        text = text[:_MAX_FIELD].decode("ascii", "backslashreplace")
    text = text[:_MAX_FIELD]
    return text if text.isprintable() else ascii(text)[1:-1]


def format_entries(entries: list[AccessEntry]) -> bytes:
    """One line each; the entries are changed on the way. About 3 us an entry."""
    for entry in entries:
        path = entry.path
        if isinstance(path, bytes):
            path = path.decode("latin-1")
        entry.path = clean_text(path.partition("?")[0])
        entry.request_id = clean_text(entry.request_id)
        entry.method = clean_text(entry.method)
        entry.model = clean_text(entry.model)
        entry.ts = round(entry.ts, 6)
        entry.duration_ms = round(entry.duration_ms, 3)
        if entry.ttft_ms is not None:
            entry.ttft_ms = round(entry.ttft_ms, 3)
        if entry.queue_ms is not None:
            entry.queue_ms = round(entry.queue_ms, 3)
    return _encode_lines(entries)


def open_access_log(target: str) -> LineLog[AccessEntry]:
    """`target` is `telemetry.access_log`. Raises ConfigError when it cannot be opened."""
    return LineLog(target, format_batch=format_entries)
