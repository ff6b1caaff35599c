"""The nouns of a routing decision: endpoints as they are now, a request, and what was decided.

Everything here is immutable; plain classes, since a named tuple takes four times as long to make
and to read once all is compiled. A shell that learns something about an endpoint puts a new
`EndpointState` in the place of the old one; a decision sees one consistent sequence of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple


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


NO_LABELS: Final[Mapping[str, str]] = {}


class Endpoint:
    """Identity of one worker: what does not change while it lives."""

    __slots__ = ("cost_per_hour", "endpoint_id", "engine", "labels", "models", "url", "weight")

    def __init__(
        self,
        *,
        endpoint_id: str,
        url: str,
        engine: EngineKind = EngineKind.OPENAI,
        models: frozenset[str] = frozenset(),
        weight: float = 1.0,
        cost_per_hour: float = 0.0,
        labels: Mapping[str, str] = NO_LABELS,
    ) -> None:
        self.endpoint_id: Final = endpoint_id
        """Unique in the fleet; the URL, unless discovery knows a better name (a pod's)."""
        self.url: Final = url
        """Scheme, host and port, and a path prefix if it has one: "http://10.0.0.7:8000"."""
        self.engine: Final = engine
        self.models: Final = models
        """Names it serves, adapters included."""
        self.weight: Final = weight
        """Relative capacity; 2 gets twice the requests of 1 when all else is equal."""
        self.cost_per_hour: Final = cost_per_hour
        """Money, in whatever unit the fleet's accounts use."""
        self.labels: Final = labels
        """For splits and locality: {"version": "canary", "zone": "a", "cluster": "eu"}."""

    def is_like(self, other: Endpoint) -> bool:
        """Nothing differs."""
        return (
            self.endpoint_id == other.endpoint_id
            and self.url == other.url
            and self.engine is other.engine
            and self.models == other.models
            and self.weight == other.weight
            and self.cost_per_hour == other.cost_per_hour
            and self.labels == other.labels
        )


class EndpointMetrics:
    """What the worker says about itself, as last scraped."""

    __slots__ = (
        "kv_cache_usage", "num_cache_tokens", "num_requests_running", "num_requests_waiting",
        "scraped_at",
    )  # fmt: skip

    def __init__(
        self,
        num_requests_running: int = 0,
        num_requests_waiting: int = 0,
        kv_cache_usage: float = 0.0,
        num_cache_tokens: int = 0,
        scraped_at: float | None = None,
    ) -> None:
        self.num_requests_running: Final = num_requests_running
        self.num_requests_waiting: Final = num_requests_waiting
        self.kv_cache_usage: Final = kv_cache_usage
        """In [0, 1]."""
        self.num_cache_tokens: Final = num_cache_tokens
        """Size of its KV cache, in tokens; 0: unknown."""
        self.scraped_at: Final = scraped_at
        """None: never, and the numbers above mean nothing."""


UNKNOWN_METRICS: Final = EndpointMetrics()


class EndpointState:
    """One endpoint as the router sees it at one moment."""

    __slots__ = (
        "breaker", "concurrency_limit", "endpoint", "in_flight", "in_flight_prefill_tokens",
        "metrics", "ready_since", "status",
    )  # fmt: skip

    def __init__(
        self,
        endpoint: Endpoint,
        status: EndpointStatus = EndpointStatus.STARTING,
        breaker: BreakerState = BreakerState.CLOSED,
        in_flight: int = 0,
        in_flight_prefill_tokens: int = 0,
        metrics: EndpointMetrics = UNKNOWN_METRICS,
        ready_since: float | None = None,
        concurrency_limit: int | None = None,
    ) -> None:
        self.endpoint: Final = endpoint
        self.status: Final = status
        self.breaker: Final = breaker
        self.in_flight: Final = in_flight
        """Requests that the router (all its processes) has there now."""
        self.in_flight_prefill_tokens: Final = in_flight_prefill_tokens
        """Uncached prompt tokens of those requests whose first token has not come yet."""
        self.metrics: Final = metrics
        self.ready_since: Final = ready_since
        """When it last became ready; for slow start."""
        self.concurrency_limit: Final = concurrency_limit
        """Requests it may have at once; None: no bound."""


class RoutingRequest:
    """What a decision needs to know of a request."""

    __slots__ = (
        "block_hashes", "block_size", "excluded", "model", "num_prompt_tokens", "prefix_hashes",
        "selector", "session_id", "tokens_per_hash",
    )  # fmt: skip

    def __init__(
        self,
        model: str,
        num_prompt_tokens: int = 0,
        prefix_hashes: tuple[int, ...] = (),
        tokens_per_hash: int = 64,
        session_id: str | None = None,
        selector: Mapping[str, str] = NO_LABELS,
        excluded: frozenset[str] = frozenset(),
        block_hashes: tuple[int, ...] = (),
        block_size: int = 0,
    ) -> None:
        self.model: Final = model
        """After aliases and splits: the name the endpoint serves."""
        self.num_prompt_tokens: Final = num_prompt_tokens
        """Exact, or estimated from the length of the text."""
        self.prefix_hashes: Final = prefix_hashes
        """Chained 64-bit hashes of the prompt's chunks, first to last; each covers all before."""
        self.tokens_per_hash: Final = tokens_per_hash
        """Prompt tokens that one hash stands for."""
        self.session_id: Final = session_id
        self.selector: Final = selector
        """Labels the endpoint must have: the arm of a split."""
        self.excluded: Final = excluded
        """endpoint_ids that have already failed this request."""
        self.block_hashes: Final = block_hashes
        """The same in exact mode: one of each full block of the prompt's token ids."""
        self.block_size: Final = block_size
        """Tokens of a block of `block_hashes`; 0: exact mode is not possible for this request."""


class Candidate(NamedTuple):
    """One endpoint that was considered: its score and where it came from."""

    endpoint_id: str
    score: float
    """Higher is better. Policies in [0, 1] where they compare like with like; for `cost` the
    negated estimate of seconds to the first token."""
    reasons: Mapping[str, float] = {}
    """Named parts of the score: {"uncached_tokens": 812, "queue_s": 0.2, ...}."""


NONE_REJECTED: Final[Mapping[str, int]] = {}


class Decision:
    """Where a request goes, and why."""

    __slots__ = (
        "candidates", "endpoint", "num_cached_tokens", "policy", "reason", "rejected", "shortage",
    )  # fmt: skip

    def __init__(
        self,
        endpoint: Endpoint | None,
        reason: str,
        policy: str,
        candidates: Sequence[Candidate] = (),
        num_cached_tokens: int = 0,
        rejected: Mapping[str, int] = NONE_REJECTED,
        shortage: Shortage | None = None,
    ) -> None:
        self.endpoint: Final = endpoint
        """None: nobody can take it; `reason` says why."""
        self.reason: Final = reason
        """One phrase for people and logs: "least estimated time to first token"."""
        self.policy: Final = policy
        self.candidates: Final = candidates
        """The best three, the chosen one first. They are made when somebody looks at them."""
        self.num_cached_tokens: Final = num_cached_tokens
        """Prompt tokens the chosen endpoint is expected to have in its prefix cache."""
        self.rejected: Final = rejected
        """Endpoints that a filter took out, by filter: {"model": 2, "status": 1}."""
        self.shortage: Final = shortage
        """Set when `endpoint` is None."""
