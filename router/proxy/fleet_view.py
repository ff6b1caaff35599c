"""The endpoints as one data-plane process sees them now.

Three sources come together in each `EndpointState`: what the state process tells (`FleetUpdate`),
what this process has there itself, and what its siblings have there (`PeerDelta`). Invariant: the
own `in_flight` of an endpoint is the number of attempts that `begin` and did not yet `end`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from ..core.types import (
    BreakerState,
    Endpoint,
    EndpointMetrics,
    EndpointState,
    EndpointStatus,
    EngineKind,
)
from ..messages import EndpointRecord, PeerDelta
from .pool import Pool

_EMPTY: Final[list[EndpointState]] = []


class FleetEntry:
    """One endpoint: its state for decisions, its pool for attempts."""

    __slots__ = (
        "adapters",
        "breaker",
        "concurrency_limit",
        "endpoint",
        "instance",
        "kv_block_size",
        "metrics",
        "others",
        "own_in_flight",
        "own_prefill_tokens",
        "places",
        "pool",
        "ready_since",
        "state",
        "status",
    )

    def __init__(self, endpoint: Endpoint, pool: Pool) -> None:
        self.endpoint = endpoint
        self.pool = pool
        self.adapters: frozenset[str] = frozenset()
        self.instance = ""
        self.kv_block_size = 0
        self.status = EndpointStatus.STARTING
        self.breaker = BreakerState.CLOSED
        self.concurrency_limit: int | None = None
        self.metrics = EndpointMetrics()
        self.ready_since: float | None = None
        self.own_in_flight = 0
        self.own_prefill_tokens = 0
        self.others: dict[int, tuple[int, int]] = {}
        """Of each sibling: requests in flight, prefill tokens in flight."""
        self.places: list[tuple[list[EndpointState], int]] = []
        self.state = EndpointState(endpoint)


class FleetView:
    """All endpoints, by id and by model."""

    def __init__(
        self,
        *,
        make_pool: Callable[[str], Pool],
        breaker_state: Callable[[str], BreakerState],
        concurrency_limit: Callable[[str], int | None],
    ) -> None:
        self._make_pool = make_pool
        self._breaker_state = breaker_state
        self._concurrency_limit = concurrency_limit
        self.entries: dict[str, FleetEntry] = {}
        self._by_model: dict[str, list[EndpointState]] = {}
        self.changed_in_flight: set[str] = set()
        """Endpoints whose own numbers changed since `PeerDelta`s were last made."""

    # Reading.

    def serving(self, model: str) -> Sequence[EndpointState]:
        """The endpoints that serve a model, in any state."""
        return self._by_model.get(model, _EMPTY)

    @property
    def models(self) -> Iterable[str]:
        """Names somebody serves."""
        return self._by_model.keys()

    def has_ready(self, model: str, selector: Mapping[str, str]) -> bool:
        """Whether an endpoint with these labels could be given a request for the model."""
        wanted = selector.items()
        return any(
            state.status is EndpointStatus.READY
            and all(state.endpoint.labels.get(name) == value for name, value in wanted)
            for state in self.serving(model)
        )

    # From attempts.

    def begin(self, entry: FleetEntry, prefill_tokens: int) -> None:
        entry.own_in_flight += 1
        entry.own_prefill_tokens += prefill_tokens
        self._put(entry)

    def first_token(self, entry: FleetEntry, prefill_tokens: int) -> None:
        """The prompt has been computed."""
        entry.own_prefill_tokens -= prefill_tokens
        self._put(entry)

    def end(self, entry: FleetEntry, prefill_tokens: int) -> None:
        """`prefill_tokens`: those whose first token never came."""
        entry.own_in_flight -= 1
        entry.own_prefill_tokens -= prefill_tokens
        self._put(entry)

    def refresh(self, endpoint_id: str) -> None:
        """Breaker or concurrency limit have changed."""
        entry = self.entries.get(endpoint_id)
        if entry is not None:
            self._look(entry)
            self._put(entry)

    # From the state process.

    def update(self, records: list[EndpointRecord], now: float) -> list[str]:
        """Take the whole fleet as it is now; returns the ids of endpoints that are gone, or that
        are another process than before: what was learnt about them is void."""
        void: list[str] = []
        known = {record.endpoint_id for record in records}
        for endpoint_id in [other for other in self.entries if other not in known]:
            self.entries.pop(endpoint_id).pool.close()
            void.append(endpoint_id)
        for record in records:
            if self._take(record, now):
                void.append(record.endpoint_id)
        self._index()
        return void

    def absorb(self, delta: PeerDelta) -> None:
        """A sibling's requests in flight."""
        for endpoint_id, in_flight in delta.in_flight.items():
            entry = self.entries.get(endpoint_id)
            if entry is None:
                continue
            if in_flight:
                prefill_tokens = delta.prefill_tokens.get(endpoint_id, 0)
                entry.others[delta.process] = (in_flight, prefill_tokens)
            else:
                entry.others.pop(delta.process, None)
            self._renew(entry)

    # Inside.

    def _take(self, record: EndpointRecord, now: float) -> bool:
        entry = self.entries.get(record.endpoint_id)
        if entry is not None and entry.endpoint.url != record.url:
            entry.pool.close()
            entry = None
        endpoint = Endpoint(
            endpoint_id=record.endpoint_id,
            url=record.url,
            engine=EngineKind(record.engine),
            models=frozenset(record.models),
            weight=record.weight,
            cost_per_hour=record.cost_per_hour,
            labels=record.labels,
        )
        if entry is None:
            entry = FleetEntry(endpoint, self._make_pool(record.url))
            self.entries[record.endpoint_id] = entry
        elif not entry.endpoint.is_like(endpoint):
            entry.endpoint = endpoint
        is_other = bool(entry.instance) and entry.instance != record.instance
        entry.instance = record.instance
        entry.kv_block_size = record.kv_block_size
        entry.adapters = frozenset(record.adapters)
        status = EndpointStatus(record.status)
        if status is EndpointStatus.READY and entry.status is not EndpointStatus.READY:
            entry.ready_since = now
        entry.status = status
        age = record.scraped_age_s
        entry.metrics = EndpointMetrics(
            record.num_requests_running,
            record.num_requests_waiting,
            record.kv_cache_usage,
            record.num_cache_tokens,
            None if age is None else now - age,
        )
        return is_other

    def _index(self) -> None:
        """Build the lists by model; decisions keep the lists they were given."""
        self._by_model = {}
        for entry in self.entries.values():
            entry.places = []
            for model in sorted(entry.endpoint.models):
                states = self._by_model.setdefault(model, [])
                entry.places.append((states, len(states)))
                states.append(entry.state)
            self._look(entry)
            self._renew(entry)

    def _look(self, entry: FleetEntry) -> None:
        """What others say of it; asked when they say that it has changed."""
        endpoint_id = entry.endpoint.endpoint_id
        entry.breaker = self._breaker_state(endpoint_id)
        entry.concurrency_limit = self._concurrency_limit(endpoint_id)

    def _put(self, entry: FleetEntry) -> None:
        self.changed_in_flight.add(entry.endpoint.endpoint_id)
        self._renew(entry)

    def _renew(self, entry: FleetEntry) -> None:
        in_flight, prefill_tokens = entry.own_in_flight, entry.own_prefill_tokens
        if entry.others:
            for others_in_flight, others_prefill in entry.others.values():
                in_flight += others_in_flight
                prefill_tokens += others_prefill
        state = EndpointState(
            entry.endpoint,
            entry.status,
            entry.breaker,
            in_flight,
            prefill_tokens,
            entry.metrics,
            entry.ready_since,
            entry.concurrency_limit,
        )
        entry.state = state
        for states, place in entry.places:
            states[place] = state
