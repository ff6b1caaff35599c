"""What happened between two looks at the router's counters, and how much of that adds up.

Pure. A sample holds differences of counters (they add up over time) and levels (they are averaged),
for every model and, under the name `ALL`, for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shoal import metrics as names

from ..core.types import BreakerState, EndpointStatus
from ..telemetry.families import FAMILIES
from ..telemetry.snapshot import Snapshot

ALL = ""
MAX_MODELS = 32
"""With samples of their own; `ALL` counts the others, too."""
TTFT_EDGES = FAMILIES[names.ROUTER_TIME_TO_FIRST_TOKEN].edges
_NUM_BUCKETS = len(TTFT_EDGES) + 1
_REFUSED = "429"
_COUNTED = ("requests", "failed", "input_tokens", "cached_tokens", "output_tokens")
_WORST = (BreakerState.OPEN.value, BreakerState.HALF_OPEN.value, BreakerState.CLOSED.value)
_TOKENS = {"prompt": "input_tokens", "cached": "cached_tokens", "completion": "output_tokens"}


@dataclass(slots=True, kw_only=True)
class ModelSample:
    """Of one model, or of all."""

    requests: float = 0.0
    failed: float = 0.0
    """Of `requests`: answered with 5xx or 429, which is not the client's doing."""
    input_tokens: float = 0.0
    """Of the prompts, cached ones included."""
    cached_tokens: float = 0.0
    output_tokens: float = 0.0
    ttft_counts: list[float] = field(default_factory=lambda: [0.0] * _NUM_BUCKETS)
    """First tokens by bucket (`TTFT_EDGES`, and the unbounded one)."""
    ready: float = 0.0
    """Endpoints that take requests."""
    in_flight: float = 0.0
    """Requests that endpoints have of the router. One that serves two models counts for both."""
    held: float = 0.0
    """Requests that wait for a model without an endpoint."""
    kv_usage: float = 0.0
    """Of the KV caches of the ready ones, their mean in [0, 1]."""
    cost_per_hour: float = 0.0
    """Of all its endpoints, whatever their status."""


@dataclass(slots=True, kw_only=True)
class Sample:
    """The time from `time - span_s` to `time` (Unix seconds, whole milliseconds)."""

    time: float
    span_s: float
    queued: float
    """Requests that wait for a free worker; the queue does not tell by model."""
    models: dict[str, ModelSample]


def take(
    before: Snapshot,
    after: Snapshot,
    endpoints: Iterable[Mapping[str, Any]],
    held: Mapping[str, int],
    *,
    time: float,
    span_s: float,
) -> Sample:
    """From two snapshots, and endpoints and held requests as they are at the end."""
    models: dict[str, ModelSample] = {ALL: ModelSample()}

    def of(model: str) -> Sequence[ModelSample]:
        found = models.get(model)
        if found is None and len(models) <= MAX_MODELS and model:
            found = models[model] = ModelSample()
        return (models[ALL],) if found is None else (models[ALL], found)

    for endpoint in endpoints:
        _add_endpoint(models[ALL], endpoint)
        for model in endpoint["models"]:
            for sample in of(model)[1:]:
                _add_endpoint(sample, endpoint)
    for model, waiting in held.items():
        for sample in of(model):
            sample.held += waiting
    for (model, code), count in _grown(before, after, names.ROUTER_REQUESTS):
        for sample in of(model):
            sample.requests += count
            if code.startswith("5") or code == _REFUSED:
                sample.failed += count
    for (model, _tenant, kind), count in _grown(before, after, names.ROUTER_TOKENS):
        for sample in of(model):
            setattr(sample, _TOKENS[kind], getattr(sample, _TOKENS[kind]) + count)
    for model, counts in _ttft(before, after):
        for sample in of(model):
            _add_counts(sample.ttft_counts, counts)
    queued = sum(_numbers(after, names.ROUTER_QUEUED_REQUESTS).values())
    return Sample(time=time, span_s=span_s, queued=queued, models=models)


def join(samples: Sequence[Sample]) -> Sample:
    """Several that follow each other, as one: counts are added up, levels averaged over time."""
    span_s = span_of(samples)
    models = dict.fromkeys(model for sample in samples for model in sample.models)
    return Sample(
        time=samples[-1].time,
        span_s=span_s,
        queued=sum(sample.queued * sample.span_s for sample in samples) / span_s,
        models={model: join_model(samples, model) for model in models},
    )


def span_of(samples: Iterable[Sample]) -> float:
    """Seconds that they cover together."""
    return sum(sample.span_s for sample in samples)


def newest(backwards: Iterable[Sample], span_s: float) -> list[Sample]:
    """Of samples from the newest on: as many as cover `span_s` together, the oldest first."""
    found: list[Sample] = []
    covered_s = 0.0
    for sample in backwards:
        if covered_s >= span_s:
            break
        found.append(sample)
        covered_s += sample.span_s
    return found[::-1]


def join_model(samples: Sequence[Sample], model: str) -> ModelSample:
    """One model's part of `join`."""
    span_s = span_of(samples)
    into = ModelSample()
    for sample in samples:
        part = sample.models.get(model)
        if part is None:
            into.ready = into.cost_per_hour = 0.0
            continue
        for name in _COUNTED:
            setattr(into, name, getattr(into, name) + getattr(part, name))
        _add_counts(into.ttft_counts, part.ttft_counts)
        into.in_flight += part.in_flight * sample.span_s / span_s
        into.held += part.held * sample.span_s / span_s
        into.kv_usage += part.kv_usage * sample.span_s / span_s
        into.ready, into.cost_per_hour = part.ready, part.cost_per_hour  # half a replica is none
    return into


def breaker_states(snapshot: Snapshot) -> dict[str, str]:
    """By endpoint: the worst state that a process has its breaker in."""
    states: dict[str, str] = {}
    for (endpoint, state), count in _numbers(snapshot, names.ROUTER_BREAKER_STATE).items():
        if count > 0 and _WORST.index(state) < _WORST.index(states.get(endpoint, _WORST[-1])):
            states[endpoint] = state
    return states


def _add_endpoint(sample: ModelSample, endpoint: Mapping[str, Any]) -> None:
    if endpoint["status"] == EndpointStatus.READY.value:
        sample.ready += 1
        sample.kv_usage += (endpoint["kv_cache_usage"] - sample.kv_usage) / sample.ready
    sample.in_flight += endpoint["in_flight"]
    sample.cost_per_hour += endpoint["cost_per_hour"]


def _add_counts(into: list[float], counts: Sequence[float]) -> None:
    for index, count in enumerate(counts):
        into[index] += count


def _numbers(snapshot: Snapshot, name: str) -> dict[tuple[str, ...], float]:
    return {
        labels: value
        for labels, value in snapshot.get(name, {}).items()
        if not isinstance(value, list)
    }


def _grown(before: Snapshot, after: Snapshot, name: str) -> Iterable[tuple[tuple[str, ...], float]]:
    """By how much each counter of a family has; those that have not are left out."""
    known = _numbers(before, name)
    for labels, value in _numbers(after, name).items():
        if (count := value - known.get(labels, 0.0)) > 0:
            yield labels, count


def _ttft(before: Snapshot, after: Snapshot) -> Iterable[tuple[str, list[float]]]:
    """Models with first tokens, and these by bucket."""
    known = before.get(names.ROUTER_TIME_TO_FIRST_TOKEN, {})
    for labels, value in after.get(names.ROUTER_TIME_TO_FIRST_TOKEN, {}).items():
        assert isinstance(value, list)
        old = known.get(labels)
        counts = value[:-1]
        if isinstance(old, list):
            counts = [new - then for new, then in zip(counts, old[:-1], strict=True)]
        if any(count > 0 for count in counts):
            yield labels[0], counts
