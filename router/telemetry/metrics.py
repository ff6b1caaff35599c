"""Counters of one data-plane process; all of a request cost about 3 us.

Not thread-safe: the event loop counts and takes snapshots. What a request needs is looked up
once and kept: a `ModelCounters` by model, an `EndpointCounters` beside the endpoint. `snapshot()`
is plain data; `snapshot.merge` adds up those of all processes, `exposition.render` writes them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from shoal import metrics as names

from .families import FAMILIES, MAX_MODELS, MAX_TENANTS, MAX_VALUES, OTHER
from .snapshot import Snapshot
from .usage import Usage

_DURATION_EDGES: Final = FAMILIES[names.ROUTER_REQUEST_DURATION].edges
_TTFT_EDGES: Final = FAMILIES[names.ROUTER_TIME_TO_FIRST_TOKEN].edges
_STREAM_EDGES: Final = FAMILIES[names.ROUTER_STREAM_TIME_TO_FIRST_TOKEN].edges
_GAP_EDGES: Final = FAMILIES[names.ROUTER_CHUNK_GAP].edges
_WAIT_EDGES: Final = FAMILIES[names.ROUTER_QUEUE_WAIT].edges


def _empty_histogram(edges: tuple[float, ...]) -> list[float]:
    """Counts of the buckets, the unbounded one, and the sum."""
    return [0] * (len(edges) + 1) + [0.0]


class ModelCounters:
    """Of one model, as clients name it."""

    __slots__ = ("_codes", "_duration", "_first_tokens", "_gap", "_hit_tokens", "_metrics",
                 "_query_tokens", "_ttft", "_used", "arrivals", "name")  # fmt: skip

    def __init__(self, name: str, metrics: RouterMetrics) -> None:
        self.name = name
        self._metrics = metrics
        self.arrivals = 0
        """Requests that are to be served by it; as workers name it, this and `began`."""
        self._first_tokens = _empty_histogram(_STREAM_EDGES)
        self._codes: dict[int, int] = {}
        self._duration = _empty_histogram(_DURATION_EDGES)
        self._ttft = _empty_histogram(_TTFT_EDGES)
        self._gap = _empty_histogram(_GAP_EDGES)
        self._used: dict[str, list[float]] = {}
        self._query_tokens = 0
        self._hit_tokens = 0

    def began(self, ttft_s: float) -> None:
        """The answer to a request for a stream has begun."""
        histogram = self._first_tokens
        histogram[bisect_left(_STREAM_EDGES, ttft_s)] += 1
        histogram[-1] += ttft_s

    def finished(
        self, status: int, duration_s: float, ttft_s: float | None = None, num_chunks: int = 0
    ) -> None:
        """One request has ended: `status` as the client saw it, 499 when the client left first.

        `ttft_s` is to the first byte of the answer's body; None: there was none. `num_chunks` of a
        stream: the mean gap between them is counted too.
        """
        codes = self._codes
        codes[status] = codes.get(status, 0) + 1
        histogram = self._duration
        histogram[bisect_left(_DURATION_EDGES, duration_s)] += 1
        histogram[-1] += duration_s
        if ttft_s is not None:
            histogram = self._ttft
            histogram[bisect_left(_TTFT_EDGES, ttft_s)] += 1
            histogram[-1] += ttft_s
            if num_chunks > 1:
                gap_s = (duration_s - ttft_s) / (num_chunks - 1)
                histogram = self._gap
                histogram[bisect_left(_GAP_EDGES, gap_s)] += 1
                histogram[-1] += gap_s

    def used(self, tenant: str, usage: Usage, cost: float = 0.0) -> None:
        """Tokens and money of one request."""
        used = self._used.get(tenant)
        if used is None:
            tenant = self._metrics.tenant_label(tenant)
            used = self._used.setdefault(tenant, [0, 0, 0, 0.0])
        used[0] += usage.prompt_tokens
        used[1] += usage.cached_tokens
        used[2] += usage.completion_tokens
        used[3] += cost

    def routed(self, num_prompt_tokens: int, num_cached_tokens: int) -> None:
        """A decision was made; `num_cached_tokens` as `Decision` estimates them."""
        self._query_tokens += num_prompt_tokens
        self._hit_tokens += num_cached_tokens

    def add_to(self, snapshot: Snapshot) -> None:
        name = self.name
        for code, count in self._codes.items():
            snapshot[names.ROUTER_REQUESTS][name, str(code)] = count
        for family, histogram in (
            (names.ROUTER_REQUEST_DURATION, self._duration),
            (names.ROUTER_TIME_TO_FIRST_TOKEN, self._ttft),
            (names.ROUTER_CHUNK_GAP, self._gap),
            (names.ROUTER_STREAM_TIME_TO_FIRST_TOKEN, self._first_tokens),
        ):
            snapshot[family][name,] = list(histogram)
        for tenant, (prompt, cached, completion, cost) in self._used.items():
            tokens = snapshot[names.ROUTER_TOKENS]
            tokens[name, tenant, "prompt"] = prompt
            tokens[name, tenant, "cached"] = cached
            tokens[name, tenant, "completion"] = completion
            snapshot[names.ROUTER_COST][name, tenant] = cost
        snapshot[names.ROUTER_ARRIVALS][name,] = self.arrivals
        snapshot[names.ROUTER_PREFIX_QUERY_TOKENS][name,] = self._query_tokens
        snapshot[names.ROUTER_PREFIX_HIT_TOKENS][name,] = self._hit_tokens


class EndpointCounters:
    """Of one endpoint, until `RouterMetrics.forget_endpoint`."""

    __slots__ = ("_connects", "_decisions", "breaker", "endpoint_id", "in_flight")

    def __init__(self, endpoint_id: str) -> None:
        self.endpoint_id = endpoint_id
        self.in_flight = 0
        """Requests there now; whoever sends one adds and takes away."""
        self.breaker = "closed"
        """A `BreakerState`."""
        self._decisions: dict[str, int] = {}
        self._connects = [0, 0]

    def decided(self, policy: str) -> None:
        """A request was sent there."""
        self._decisions[policy] = self._decisions.get(policy, 0) + 1

    def connected(self, ok: bool) -> None:  # one word a call, and the name says which
        """A connection was opened, or could not be."""
        self._connects[ok] += 1

    def add_to(self, snapshot: Snapshot) -> None:
        name = self.endpoint_id
        snapshot[names.ROUTER_IN_FLIGHT][name,] = self.in_flight
        snapshot[names.ROUTER_BREAKER_STATE][name, self.breaker] = 1
        for policy, count in self._decisions.items():
            snapshot[names.ROUTER_DECISIONS][policy, name] = count
        failed, succeeded = self._connects
        snapshot[names.ROUTER_UPSTREAM_CONNECTS][name, "ok"] = succeeded
        snapshot[names.ROUTER_UPSTREAM_CONNECTS][name, "failed"] = failed


class LabelledCounter:
    """A family with one label, whose values are few."""

    __slots__ = ("_counts", "_family")

    def __init__(self, family: str) -> None:
        self._family = family
        self._counts: dict[str, float] = {}

    def add(self, label: str, amount: float = 1) -> None:
        counts = self._counts
        if label not in counts and len(counts) >= MAX_VALUES:
            label = OTHER
        counts[label] = counts.get(label, 0) + amount

    def add_to(self, snapshot: Snapshot) -> None:
        snapshot[self._family].update({(label,): n for label, n in self._counts.items()})


class LabelledGauge:
    """A family with one label, whose values are what they were last set to."""

    __slots__ = ("_family", "_max_values", "_values")

    def __init__(self, family: str, *, max_values: int = MAX_VALUES) -> None:
        self._family = family
        self._max_values = max_values
        self._values: dict[str, float] = {}

    def set(self, label: str, value: float) -> None:
        """One too many takes the place of one that is zero; when none is, it is not kept."""
        values = self._values
        if label not in values and len(values) >= self._max_values:
            unused = next((known for known, n in values.items() if n == 0), None)
            if unused is None:
                return
            del values[unused]
        values[label] = value

    def replace(self, values: Mapping[str, float]) -> None:
        """Set these, and zero all others that were ever set: no value outlives its cause."""
        for label in self._values.keys() - values.keys():
            self._values[label] = 0
        for label, value in values.items():
            self.set(label, value)

    def add_to(self, snapshot: Snapshot) -> None:
        snapshot[self._family].update({(label,): n for label, n in self._values.items()})


class RouterMetrics:
    """All that one process counts."""

    def __init__(self) -> None:
        self.connections_open = 0
        self.connections = 0
        """Accepted so far."""
        self.retries = LabelledCounter(names.ROUTER_RETRIES)
        """By reason."""
        self.failovers = LabelledCounter(names.ROUTER_FAILOVERS)
        """By outcome."""
        self.hedges = LabelledCounter(names.ROUTER_HEDGES)
        """By outcome."""
        self.shed = LabelledCounter(names.ROUTER_SHED)
        """By reason."""
        self.queued = LabelledGauge(names.ROUTER_QUEUED_REQUESTS)
        """By band."""
        self.model_queued = LabelledGauge(names.ROUTER_MODEL_QUEUED_REQUESTS, max_values=MAX_MODELS)
        """By model."""
        self.held = LabelledGauge(names.ROUTER_HELD_REQUESTS, max_values=MAX_MODELS)
        """By model."""
        self._lines_dropped: dict[str, Callable[[], int]] = {}
        self._spans_dropped: Callable[[], int] = int
        self._waits: dict[str, list[float]] = {}
        self._models: dict[str, ModelCounters] = {}
        self._known_models: set[str] = set()
        self._other = ModelCounters(OTHER, self)
        self._endpoints: dict[str, EndpointCounters] = {}
        self._tenants: set[str] = set()

    def know_models(self, models: Iterable[str]) -> None:
        """Names that workers serve or the configuration has; all others are counted as `other`."""
        self._known_models.update(models)

    def model(self, name: str) -> ModelCounters:
        """The same object each time."""
        model = self._models.get(name)
        if model is None:
            if name not in self._known_models or len(self._models) >= MAX_MODELS:
                return self._other
            model = self._models[name] = ModelCounters(name, self)
        return model

    def endpoint(self, endpoint_id: str) -> EndpointCounters:
        """The same object each time."""
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is None:
            endpoint = self._endpoints[endpoint_id] = EndpointCounters(endpoint_id)
        return endpoint

    def forget_endpoint(self, endpoint_id: str) -> None:
        """It has left the fleet; pods come and go, and each has a new name."""
        self._endpoints.pop(endpoint_id, None)

    def waited(self, band: str, seconds: float) -> None:
        """A request has left the queue, served or not."""
        histogram = self._waits.get(band)
        if histogram is None:
            histogram = self._waits[band] = _empty_histogram(_WAIT_EDGES)
        histogram[bisect_left(_WAIT_EDGES, seconds)] += 1
        histogram[-1] += seconds

    def tenant_label(self, tenant: str) -> str:
        """The tenant itself, or `other` when there are too many already."""
        if tenant not in self._tenants:
            if len(self._tenants) >= MAX_TENANTS:
                return OTHER
            self._tenants.add(tenant)
        return tenant

    def watch_log(self, name: str, dropped: Callable[[], int]) -> None:
        """`dropped` is read with each snapshot: lines of the log `name` that were lost so far."""
        self._lines_dropped[name] = dropped

    def watch_spans(self, dropped: Callable[[], int]) -> None:
        """The same of spans."""
        self._spans_dropped = dropped

    def snapshot(self) -> Snapshot:
        """Everything now. About 20 us a model and 5 us an endpoint."""
        snapshot: Snapshot = {name: {} for name in FAMILIES}
        for model in (*self._models.values(), self._other):
            model.add_to(snapshot)
        for endpoint in self._endpoints.values():
            endpoint.add_to(snapshot)
        for family in (
            self.retries, self.failovers, self.hedges, self.shed, self.queued, self.model_queued,
            self.held,
        ):  # fmt: skip
            family.add_to(snapshot)
        for band, histogram in self._waits.items():
            snapshot[names.ROUTER_QUEUE_WAIT][band,] = list(histogram)
        snapshot[names.ROUTER_CONNECTIONS_OPEN][()] = self.connections_open
        snapshot[names.ROUTER_CONNECTIONS][()] = self.connections
        for log, dropped in self._lines_dropped.items():
            snapshot[names.ROUTER_LOG_LINES_DROPPED][log,] = dropped()
        snapshot[names.ROUTER_SPANS_DROPPED][()] = self._spans_dropped()
        return snapshot
