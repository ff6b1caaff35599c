"""What a request leaves behind for its spans: plain values, noted while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .traceparent import TraceContext
from .usage import Usage


class Attempt(NamedTuple):
    """One request to one worker. Times as in `RequestSpan`."""

    endpoint_id: str
    url: str
    start_s: float
    end_s: float
    status: int | None
    """None: no answer came."""
    error: str | None = None
    """Reason of the retry or failover that followed, or code of the error."""
    policy: str = ""
    """`Decision.policy`."""
    decision: str = ""
    """`Decision.reason`."""
    reasons: Mapping[str, float] = {}
    """`Candidate.reasons` of the endpoint."""


class RequestSpan(NamedTuple):
    """A request that has ended. Times are of CLOCK_MONOTONIC: the event loop's."""

    context: TraceContext
    operation: str
    """"chat", "text_completion", "embeddings" or "generate_content", as GenAI conventions say."""
    method: str
    path: str
    """Without the query."""
    start_s: float
    end_s: float
    status: int
    model: str
    """As the client wrote it."""
    response_model: str | None = None
    """As the worker calls it."""
    first_token_s: float | None = None
    queued_s: tuple[float, float] | None = None
    """From when until when it waited."""
    attempts: tuple[Attempt, ...] = ()
    failovers: int = 0
    usage: Usage | None = None
    error: str | None = None
    request_id: str = ""
    tenant: str = ""
