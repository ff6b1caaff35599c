"""The JSON of the admin API. Times are Unix seconds; null is "not known". Pure."""

from __future__ import annotations

import msgspec

from ..core.observation import Observation, VariantObservation
from ..core.spec import VariantSpec
from ..policy import Mode
from ..record.decision_record import DecisionRecord
from ..record.history import HistoryPoint, per_s
from ..record.memory import Memory, ModelMemory


class SloView(msgspec.Struct):
    ttft_s: float
    tpot_s: float
    attainment: float


class VariantView(msgspec.Struct, kw_only=True):
    """One variant as its target told at the last decision, and what is wanted of it since."""

    name: str
    role: str
    desired: int | None
    ready: int | None
    pending: int | None
    unschedulable: int | None
    draining: int | None
    min_replicas: int
    max_replicas: int
    gpus_per_replica: int
    cost_per_hour: float
    """Of one replica."""


class DemandView(msgspec.Struct, kw_only=True):
    """What came in during the last interval."""

    arrivals_per_s: float | None = None
    queued: int | None = None
    held: int | None = None
    input_tokens_per_s: float | None = None
    """Prompts that no cache held."""
    output_tokens_per_s: float | None = None


class ReasonView(msgspec.Struct):
    kind: str
    variant: str
    detail: str


class DecisionView(msgspec.Struct, kw_only=True):
    """One decision, with the numbers behind it by name."""

    time: float
    model: str
    mode: str
    applied: bool
    before: dict[str, int]
    desired: dict[str, int]
    valid: bool
    reasons: list[ReasonView]
    explain: dict[str, float]
    failures: dict[str, str]
    """By variant: why its number was not taken."""


class ModelView(msgspec.Struct, kw_only=True):
    model: str
    policy: str
    mode: str
    interval_s: float
    slo: SloView
    gpu_budget: int | None
    variants: list[VariantView]
    demand: DemandView
    attainment: float | None
    """Share of first tokens in time over the last 5 minutes."""
    tokens_per_s: float | None
    """Output tokens, over the last minute."""
    tokens_per_dollar: float | None
    """Output tokens per unit of cost; null where replicas cost nothing."""
    last_decision: DecisionView | None


class ModelsView(msgspec.Struct):
    """`GET /autoscaler/models`."""

    models: list[ModelView]


class HistoryView(msgspec.Struct):
    """`GET /autoscaler/history`, the oldest first."""

    points: list[HistoryPoint]


class DecisionsView(msgspec.Struct):
    """`GET /autoscaler/decisions`, the newest first."""

    decisions: list[DecisionView]


def models_view(memory: Memory) -> ModelsView:
    return ModelsView([_model(model) for model in memory])


def decisions_view(memory: Memory, limit: int) -> DecisionsView:
    return DecisionsView([decision_view(record) for record in memory.decisions(limit)])


def decision_view(record: DecisionRecord) -> DecisionView:
    decision = record.decision
    return DecisionView(
        time=record.time,
        model=record.model,
        mode=record.mode,
        applied=record.applied,
        before=record.before,
        desired=decision.desired,
        valid=decision.valid,
        reasons=[ReasonView(str(r.kind), r.variant, r.detail) for r in decision.reasons],
        explain=decision.explain,
        failures=record.failures,
    )


def _model(memory: ModelMemory) -> ModelView:
    policy, last = memory.policy, memory.last
    spec = policy.spec
    seen = {} if last is None else {v.name: v for v in last.observation.variants}
    # Advice changes nothing: then it is the target's own word.
    desired = last.decision.desired if last is not None and policy.mode is Mode.AUTO else {}
    return ModelView(
        model=policy.model,
        policy=memory.name,
        mode=policy.mode.value,
        interval_s=policy.interval_s,
        slo=SloView(spec.slo.ttft_s, spec.slo.tpot_s, spec.slo.attainment),
        gpu_budget=spec.gpu_budget,
        variants=[_variant(v, seen.get(v.name), desired.get(v.name)) for v in spec.variants],
        demand=DemandView() if last is None else _demand(last.observation),
        attainment=memory.attainment(),
        tokens_per_s=memory.tokens_per_s(),
        tokens_per_dollar=memory.tokens_per_cost(),
        last_decision=None if last is None else decision_view(last),
    )


def _variant(
    spec: VariantSpec, seen: VariantObservation | None, desired: int | None
) -> VariantView:
    return VariantView(
        name=spec.name,
        role=str(spec.role),
        desired=seen.desired if desired is None and seen is not None else desired,
        ready=None if seen is None else seen.ready,
        pending=None if seen is None else seen.pending,
        unschedulable=None if seen is None else seen.unschedulable,
        draining=None if seen is None else seen.draining,
        min_replicas=spec.min_replicas,
        max_replicas=spec.max_replicas,
        gpus_per_replica=spec.gpus_per_replica,
        cost_per_hour=spec.cost_per_hour,
    )


def _demand(seen: Observation) -> DemandView:
    return DemandView(
        arrivals_per_s=per_s(seen.arrivals, seen),
        queued=seen.queued,
        held=seen.held,
        input_tokens_per_s=per_s(seen.input_tokens, seen),
        output_tokens_per_s=per_s(seen.output_tokens, seen),
    )
