"""The `shoal_autoscaler_*` metrics: gauges read from memory when Prometheus asks, and counters."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shoal import metrics as names

from .core.state import ScalerState
from .record.decision_record import DecisionRecord
from .record.history import point_of
from .record.memory import Memory, ModelMemory

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MODEL = ("policy", "model")
_VARIANT = ("policy", "model", "variant")


class Telemetry:
    """Of one process."""

    def __init__(self, memory: Memory, *, is_leader: Callable[[], bool] = lambda: True) -> None:
        """`is_leader`: whether this process is the one that scales."""
        self._registry = CollectorRegistry()
        self._registry.register(_Gauges(memory, is_leader))
        self._decisions = self._counter(
            names.AUTOSCALER_DECISIONS, "Decisions; valid: false where too little was known.",
            (*_MODEL, "valid"),
        )  # fmt: skip
        self._reasons = self._counter(
            names.AUTOSCALER_DECISION_REASONS, "Decisions that had such a reason.",
            (*_MODEL, "reason"),
        )  # fmt: skip
        self._failures = self._counter(
            names.AUTOSCALER_SCALE_FAILURES, "Numbers of replicas that a platform did not take.",
            _VARIANT,
        )  # fmt: skip
        self._errors = self._counter(
            names.AUTOSCALER_COLLECTOR_ERRORS,
            "Answers of routers and workers that did not come, or made no sense.", _MODEL,
        )  # fmt: skip
        self._durations = Histogram(
            names.AUTOSCALER_DECISION_DURATION, "To look, decide and ask for it.", _MODEL,
            buckets=names.AUTOSCALER_DURATION_BUCKETS, registry=self._registry,
        )  # fmt: skip

    def recorder(self, memory: ModelMemory) -> ModelTelemetry:
        """Counts the decisions of a model."""
        return ModelTelemetry(self, memory.name)

    def collector_failed(self, memory: ModelMemory) -> None:
        """One answer did not come, or made no sense."""
        self._errors.labels(memory.name, memory.policy.model).inc()

    def text(self) -> bytes:
        """All samples, in the Prometheus text format 0.0.4."""
        return generate_latest(self._registry)

    def count(self, policy: str, record: DecisionRecord) -> None:
        """One decision."""
        model, decision = record.model, record.decision
        self._decisions.labels(policy, model, str(decision.valid).lower()).inc()
        for kind in {str(reason.kind) for reason in decision.reasons}:
            self._reasons.labels(policy, model, kind).inc()
        for variant in record.failures:
            self._failures.labels(policy, model, variant).inc()
        self._durations.labels(policy, model).observe(record.duration_s)

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(name, text, labels, registry=self._registry)


class ModelTelemetry:
    """A `Recorder`."""

    def __init__(self, telemetry: Telemetry, policy: str) -> None:
        self._telemetry = telemetry
        self._policy = policy

    def before(self, state: ScalerState, now: float) -> None:
        """Nothing to count yet."""

    def record(self, record: DecisionRecord) -> None:
        self._telemetry.count(self._policy, record)


class _Gauges(Collector):
    """What was last seen and decided; a model that is scaled no more has none."""

    def __init__(self, memory: Memory, is_leader: Callable[[], bool]) -> None:
        self._memory = memory
        self._is_leader = is_leader

    def collect(self) -> Iterator[Metric]:
        leader = GaugeMetricFamily(
            names.AUTOSCALER_IS_LEADER, "1: this process scales; 0: it stands by."
        )
        leader.add_metric([], float(self._is_leader()))
        yield leader
        yield from self._of_variants()
        yield from self._of_models()

    def _of_variants(self) -> Iterator[Metric]:
        desired, ready, pending, unschedulable = (
            GaugeMetricFamily(name, text, labels=_VARIANT)
            for name, text in (
                (names.AUTOSCALER_DESIRED_REPLICAS, "Replicas that were decided on."),
                (names.AUTOSCALER_READY_REPLICAS, "Replicas that serve."),
                (names.AUTOSCALER_PENDING_REPLICAS, "Replicas on their way."),
                (names.AUTOSCALER_UNSCHEDULABLE_REPLICAS, "Those of them without a place."),
            )
        )
        for memory, last in self._known():
            key = (memory.name, memory.policy.model)
            for variant, number in last.decision.desired.items():
                desired.add_metric([*key, variant], number)
            for seen in last.observation.variants:
                ready.add_metric([*key, seen.name], seen.ready)
                pending.add_metric([*key, seen.name], seen.pending)
                unschedulable.add_metric([*key, seen.name], seen.unschedulable)
        yield from (desired, ready, pending, unschedulable)

    def _of_models(self) -> Iterator[Metric]:
        families: dict[str, GaugeMetricFamily] = {
            name: GaugeMetricFamily(name, text, labels=_MODEL)
            for name, text in (
                (names.AUTOSCALER_NEEDED_LOAD, "Replicas that requests keep busy."),
                (names.AUTOSCALER_HELD_REQUESTS, "Requests that wait for a first replica."),
                (names.AUTOSCALER_SLO_ATTAINMENT,
                 "Share of first tokens in time over the last 5 minutes."),
                (names.AUTOSCALER_COST, "Of all replicas that are not gone yet."),
                (names.AUTOSCALER_TOKENS_PER_COST,
                 "Output tokens per unit of cost, at the rates of the last minute."),
                (names.AUTOSCALER_LAST_DECISION, "Unix time of the newest decision."),
            )
        }  # fmt: skip
        for memory, last in self._known():
            point = point_of(last, memory.policy.spec)
            for name, value in (
                (names.AUTOSCALER_NEEDED_LOAD, point.needed),
                (names.AUTOSCALER_HELD_REQUESTS, point.held),
                (names.AUTOSCALER_SLO_ATTAINMENT, memory.attainment()),
                (names.AUTOSCALER_COST, point.cost_per_hour),
                (names.AUTOSCALER_TOKENS_PER_COST, memory.tokens_per_cost()),
                (names.AUTOSCALER_LAST_DECISION, point.time),
            ):
                if value is not None:  # not known is no sample, and not 0
                    families[name].add_metric([memory.name, memory.policy.model], value)
        yield from families.values()

    def _known(self) -> Iterator[tuple[ModelMemory, DecisionRecord]]:
        for memory in self._memory:
            if (last := memory.last) is not None:
                yield memory, last
