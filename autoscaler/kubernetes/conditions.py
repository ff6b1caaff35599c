"""The status of a ScalingPolicy: conditions and numbers, from what the last decision knew. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..core.decision import Decision, ReasonKind
from ..core.observation import VariantObservation
from ..policy import Mode
from ..record.decision_record import DecisionRecord

EDIT_SHOWS_S = 600.0
"""An edit by others is shown for so long."""
LIMITS = {
    ReasonKind.GPU_BUDGET: "GpuBudget",
    ReasonKind.MAX_REPLICAS: "MaxReplicas",
    ReasonKind.MIN_REPLICAS: "MinReplicas",
}
"""The first that holds is told."""

Condition = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a policy does not scale, as a word and as a sentence with the way to mend it."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that a status is made of."""

    generation: int
    """Of the object whose spec is in use."""
    mode: Mode = Mode.AUTO
    problem: Problem | None = None
    record: DecisionRecord | None = None
    """The last decision."""
    why_pending: str = ""
    """The scheduler's words."""
    edit: str = ""
    """What somebody else did of late."""
    target_problems: Mapping[str, Problem] = field(default_factory=dict)
    """By variant: why its replicas are not known."""


def conditions(facts: Facts) -> list[Condition]:
    """Without times."""
    made = [_ready(facts)]
    if facts.mode is Mode.ADVISE:
        made.append(_condition("Advising", "ModeAdvise", "decides and reports; changes nothing"))
    else:
        made.append(_condition("Advising", "ModeAuto", "", holds=False))
    made += [_limited(facts.record), _unschedulable(facts), _edited(facts.edit)]
    return made


def merged(
    before: Sequence[Condition], after: Iterable[Condition], *, generation: int, now: str
) -> list[Condition]:
    """With times and generation: a condition keeps its time while its status stays."""
    known = {condition.get("type"): condition for condition in before}
    made = []
    for condition in after:
        old = known.get(condition["type"], {})
        same = old.get("status") == condition["status"]
        since = old.get("lastTransitionTime", now) if same else now
        made.append({**condition, "lastTransitionTime": since, "observedGeneration": generation})
    return made


def status(facts: Facts, before: Mapping[str, Any], now: str) -> dict[str, Any]:
    """The whole status; `before` is the one there is."""
    made: dict[str, Any] = {
        "observedGeneration": facts.generation,
        "conditions": merged(
            before.get("conditions") or (), conditions(facts), generation=facts.generation, now=now
        ),
        "message": message(facts),
    }
    if (record := facts.record) is not None:
        variants = [_variant(seen, record.decision) for seen in record.observation.variants]
        made["variants"] = variants
        made["desired"] = sum(variant["desired"] for variant in variants)
        made["ready"] = sum(variant["ready"] for variant in variants)
        made["lastDecisionTime"] = iso(record.time)
    return made


def material(status: Mapping[str, Any]) -> dict[str, Any]:
    """What of it is worth writing at once: not the numbers in sentences, which change each time."""
    passing = ("message", "lastDecisionTime")
    made = {name: value for name, value in status.items() if name not in passing}
    made["conditions"] = [
        {name: value for name, value in condition.items() if name != "message"}
        for condition in status.get("conditions") or ()
    ]
    return made


def message(facts: Facts) -> str:
    """One sentence: what is, and why."""
    if facts.problem is not None:
        return facts.problem.message
    if facts.record is None:
        return "no decision yet"
    if (unknown := _unknown(facts)) is not None:
        return unknown.message
    return "; ".join(_reasons(facts.record.decision)) or "as it is"


def _ready(facts: Facts) -> Condition:
    if (problem := facts.problem or _unknown(facts)) is not None:
        return _condition("Ready", problem.reason, problem.message, holds=False)
    if facts.record is None:
        return _condition("Ready", "Starting", "no decision yet", status="Unknown")
    if not facts.record.decision.valid:
        text = "too little is known to decide: holding what there is"
        return _condition("Ready", "NoMetrics", text, holds=False)
    if facts.record.failures:
        text = "; ".join(f"{name}: {why}" for name, why in sorted(facts.record.failures.items()))
        return _condition("Ready", "NotScaled", text, holds=False)
    return _condition("Ready", "Deciding", "decides and scales as it should")


def _unknown(facts: Facts) -> Problem | None:
    """The first target that does not tell its replicas."""
    for variant, problem in sorted(facts.target_problems.items()):
        return Problem(problem.reason, f"variant {variant!r}: {problem.message}")
    return None


def _limited(record: DecisionRecord | None) -> Condition:
    for kind, word in LIMITS.items():
        for reason in () if record is None else record.decision.reasons:
            if reason.kind is kind:
                return _condition("ScalingLimited", word, f"{reason.variant}: {reason.detail}")
    return _condition("ScalingLimited", "WithinBounds", "", holds=False)


def _unschedulable(facts: Facts) -> Condition:
    seen = () if facts.record is None else facts.record.observation.variants
    lacking = {v.name: v.unschedulable for v in seen if v.unschedulable}
    if not lacking:
        return _condition("Unschedulable", "AllHaveAPlace", "", holds=False)
    numbers = ", ".join(f"{number} of {name}" for name, number in lacking.items())
    text = f"replicas without a place: {numbers}. {facts.why_pending}".strip()
    return _condition("Unschedulable", "NoPlace", text)


def _edited(edit: str) -> Condition:
    if edit:
        return _condition("EditedByOthers", "ReplicasEdited", edit)
    return _condition("EditedByOthers", "NobodyElse", "", holds=False)


def _condition(
    kind: str, reason: str, text: str, *, holds: bool = True, status: str | None = None
) -> Condition:
    return {
        "type": kind,
        "status": status or ("True" if holds else "False"),
        "reason": reason,
        "message": text[:1024],
    }


def _variant(seen: VariantObservation, decision: Decision) -> dict[str, Any]:
    return {
        "name": seen.name,
        "desired": decision.desired.get(seen.name, seen.desired),
        "current": seen.desired,
        "ready": seen.ready,
        "pending": seen.pending,
        "unschedulable": seen.unschedulable,
        "draining": seen.draining,
    }


def _reasons(decision: Decision) -> list[str]:
    return [f"{each.variant}: {each.kind.value}, {each.detail}" for each in decision.reasons]


def iso(time: float) -> str:
    """Unix time as the API writes it."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
