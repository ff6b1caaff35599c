"""Spans of sampled requests, exported over OTLP; made at the end of a request from its times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .traceparent import TraceContext
from .usage import Usage


class Attempt(NamedTuple):
    """One request to one worker."""

    endpoint_id: str
    url: str
    start_s: float
    """On the clock of the request's own times, as `end_s`."""
    end_s: float
    status: int | None
    """None: no answer came."""
    error: str | None = None
    reasons: Mapping[str, float] = {}
    """Of the decision (`Candidate.reasons`)."""
    policy: str = ""
    decision: str = ""
    """`Decision.reason`."""


class RequestSpan(NamedTuple):
    """What is known of a request when it has ended. Times are the loop's (CLOCK_MONOTONIC)."""

    context: TraceContext
    operation: str
    """"chat", "text_completion", "embeddings", "generate_content": GenAI conventions."""
    path: str
    start_s: float
    end_s: float
    status: int
    model: str
    response_model: str | None = None
    first_token_s: float | None = None
    queued_s: tuple[float, float] | None = None
    """From when until when it waited."""
    attempts: tuple[Attempt, ...] = ()
    usage: Usage | None = None
    error: str | None = None
    request_id: str = ""
    tenant: str = ""


class Tracer:
    """Owns the exporter's thread. Only made when `telemetry.otlp_endpoint` is set."""

    def __init__(self, otlp_endpoint: str, *, host: str, port: int) -> None:
        """`host` and `port` of the router, for `server.address`."""
        raise NotImplementedError

    def record(self, span: RequestSpan) -> None:
        """Queue the spans of one request, if it is sampled; about 100 us."""
        raise NotImplementedError

    def close(self, timeout_s: float = 2.0) -> None:
        raise NotImplementedError
