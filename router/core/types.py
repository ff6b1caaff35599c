"""The nouns of a routing decision: endpoints as they are now, a request, and what was decided.

Everything here is immutable. A shell that learns something about an endpoint puts a new
`EndpointState` in the place of the old one; a decision sees one consistent sequence of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class EngineKind(StrEnum):
    """What runs behind an endpoint: decides metric names, routes, and how a stream resumes."""

    SHOAL = "shoal"
    VLLM = "vllm"
    SGLANG = "sglang"
    OPENAI = "openai"
    """Anything that speaks the OpenAI API and tells no more."""


class EndpointStatus(StrEnum):
    """What health checks and operators say. The breaker has its own opinion."""

    STARTING = "starting"
    """Discovered, not yet seen healthy."""
    READY = "ready"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"
    """Finishes what it has, gets nothing new."""


class BreakerState(StrEnum):
    """Of the circuit breaker in front of an endpoint."""

    CLOSED = "closed"
    """Lets everything through."""
    OPEN = "open"
    """Lets nothing through."""
    HALF_OPEN = "half_open"
    """A probe may be sent. While it is out the breaker shows itself OPEN to everybody else."""


class Shortage(StrEnum):
    """Why nobody can take a request; tells the shell what to do about it."""

    NO_MODEL = "no_model"
    """No endpoint serves the model (with the labels asked for): hold it, scale from zero.
    `Decision.rejected` has "selector" when only the labels are missing."""
    STARTING = "starting"
    """Those that serve it are starting: hold it."""
    NONE_HEALTHY = "none_healthy"
    """Those that serve it are unhealthy or draining: 503."""
    ALL_EXCLUDED = "all_excluded"
    """Every ready one has already failed this request: stop retrying."""
    ALL_FULL = "all_full"
    """Every one that may take it is at its concurrency limit: queue it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Identity of one worker: what does not change while it lives."""

    endpoint_id: str
    """Unique in the fleet; the URL, unless discovery knows a better name (a pod's)."""
    url: str
    """Scheme, host and port, and a path prefix if it has one: "http://10.0.0.7:8000"."""
    engine: EngineKind = EngineKind.OPENAI
    models: frozenset[str] = frozenset()
    """Names it serves, adapters included."""
    weight: float = 1.0
    """Relative capacity; 2 gets twice the requests of 1 when all else is equal."""
    cost_per_hour: float = 0.0
    """Money, in whatever unit the fleet's accounts use."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """For splits and locality: {"version": "canary", "zone": "a", "cluster": "eu"}."""


class EndpointMetrics(NamedTuple):
    """What the worker says about itself, as last scraped."""

    num_requests_running: int = 0
    num_requests_waiting: int = 0
    kv_cache_usage: float = 0.0
    """In [0, 1]."""
    num_cache_tokens: int = 0
    """Size of its KV cache, in tokens; 0: unknown."""
    scraped_at: float | None = None
    """None: never, and the numbers above mean nothing."""


class EndpointState(NamedTuple):
    """One endpoint as the router sees it at one moment."""

    endpoint: Endpoint
    status: EndpointStatus = EndpointStatus.STARTING
    breaker: BreakerState = BreakerState.CLOSED
    in_flight: int = 0
    """Requests that the router (all its processes) has there now."""
    in_flight_prefill_tokens: int = 0
    """Uncached prompt tokens of those requests whose first token has not come yet."""
    metrics: EndpointMetrics = EndpointMetrics()
    ready_since: float | None = None
    """When it last became ready; for slow start."""
    concurrency_limit: int | None = None
    """Requests it may have at once; None: no bound."""


class RoutingRequest(NamedTuple):
    """What a decision needs to know of a request."""

    model: str
    """After aliases and splits: the name the endpoint serves."""
    num_prompt_tokens: int = 0
    """Exact, or estimated from the length of the text."""
    prefix_hashes: tuple[int, ...] = ()
    """Chained 64-bit hashes of the prompt's chunks, first to last; each covers all before it."""
    tokens_per_hash: int = 64
    """Prompt tokens that one hash stands for."""
    session_id: str | None = None
    selector: Mapping[str, str] = {}
    """Labels the endpoint must have: the arm of a split."""
    excluded: frozenset[str] = frozenset()
    """endpoint_ids that have already failed this request."""
    block_hashes: tuple[int, ...] = ()
    """The same in exact mode: one of each full block of the prompt's token ids."""
    block_size: int = 0
    """Tokens of one block of `block_hashes`; 0: exact mode is not possible for this request."""


class Candidate(NamedTuple):
    """One endpoint that was considered: its score and where it came from."""

    endpoint_id: str
    score: float
    """Higher is better. Policies in [0, 1] where they compare like with like; for `cost` the
    negated estimate of seconds to the first token."""
    reasons: Mapping[str, float] = {}
    """Named parts of the score: {"uncached_tokens": 812, "queue_s": 0.2, ...}."""


class Decision(NamedTuple):
    """Where a request goes, and why."""

    endpoint: Endpoint | None
    """None: nobody can take it; `reason` says why."""
    reason: str
    """One phrase for people and logs: "least estimated time to first token"."""
    policy: str
    candidates: Sequence[Candidate] = ()
    """The best three, the chosen one first. They are made when somebody looks at them."""
    num_cached_tokens: int = 0
    """Prompt tokens the chosen endpoint is expected to have in its prefix cache."""
    rejected: Mapping[str, int] = {}
    """Endpoints that a filter took out, by filter: {"model": 2, "status": 1}."""
    shortage: Shortage | None = None
    """Set when `endpoint` is None."""
