from __future__ import annotations

from typing import Any

import pytest

from shoal.autoscaler.core.decision import Decision, Reason, ReasonKind
from shoal.autoscaler.core.observation import Observation, VariantObservation
from shoal.autoscaler.kubernetes.conditions import (
    Facts,
    Problem,
    conditions,
    material,
    merged,
    message,
    status,
)
from shoal.autoscaler.policy import Mode
from shoal.autoscaler.record.decision_record import DecisionRecord

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"


def record(
    *reasons: Reason, valid: bool = True, unschedulable: int = 0,
    failures: dict[str, str] | None = None,
) -> DecisionRecord:  # fmt: skip
    seen = VariantObservation(
        name="h100", desired=2, ready=1, pending=1, unschedulable=unschedulable
    )
    decision = Decision(desired={"h100": 3}, valid=valid, reasons=reasons, explain={})
    return DecisionRecord(
        time=1767225600.0, now=0.0, model="m", mode="auto", spec_hash="", decision=decision,
        observation=Observation(interval_s=5.0, arrivals=1, variants=(seen,)),
        before={"h100": 2}, applied=True, failures=failures or {},
    )  # fmt: skip


def found(facts: Facts) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in conditions(facts)}


DEMAND = Reason(ReasonKind.DEMAND, "h100", "load 2.10, need 2.60 replicas")


def test_all_is_well() -> None:
    assert found(Facts(generation=1, record=record(DEMAND))) == {
        "Ready": ("True", "Deciding"),
        "Advising": ("False", "ModeAuto"),
        "ScalingLimited": ("False", "WithinBounds"),
        "Unschedulable": ("False", "AllHaveAPlace"),
        "EditedByOthers": ("False", "NobodyElse"),
    }


@pytest.mark.parametrize(
    ("facts", "kind", "expected"),
    [
        ({}, "Ready", ("Unknown", "Starting")),
        ({"problem": Problem("Invalid", "no")}, "Ready", ("False", "Invalid")),
        ({"record": record(valid=False)}, "Ready", ("False", "NoMetrics")),
        ({"record": record(failures={"h100": "no"})}, "Ready", ("False", "NotScaled")),
        (
            {"record": record(), "target_problems": {"h100": Problem("TargetNotFound", "gone")}},
            "Ready",
            ("False", "TargetNotFound"),
        ),
        ({"mode": Mode.ADVISE}, "Advising", ("True", "ModeAdvise")),
        ({"record": record(unschedulable=1)}, "Unschedulable", ("True", "NoPlace")),
        ({"edit": "argocd"}, "EditedByOthers", ("True", "ReplicasEdited")),
        (
            {"record": record(Reason(ReasonKind.MAX_REPLICAS, "h100", "9 wanted"))},
            "ScalingLimited",
            ("True", "MaxReplicas"),
        ),
        (
            {
                "record": record(
                    Reason(ReasonKind.MAX_REPLICAS, "h100", "9 wanted"),
                    Reason(ReasonKind.GPU_BUDGET, "h100", "8 wanted, 4 GPUs in all"),
                )
            },
            "ScalingLimited",
            ("True", "GpuBudget"),
        ),
        (
            {"record": record(Reason(ReasonKind.PACE, "h100", "9 wanted, 4 in one step"))},
            "ScalingLimited",
            ("False", "WithinBounds"),
        ),
    ],
)
def test_each_condition(facts: dict[str, Any], kind: str, expected: tuple[str, str]) -> None:
    assert found(Facts(generation=1, **facts))[kind] == expected


def test_a_problem_wins_over_what_was_decided_before() -> None:
    facts = Facts(generation=1, record=record(DEMAND), problem=Problem("Invalid", "spec: no"))
    assert found(facts)["Ready"] == ("False", "Invalid")
    assert message(facts) == "spec: no"


def test_the_scheduler_is_quoted() -> None:
    facts = Facts(generation=1, record=record(unschedulable=1), why_pending="0/2 nodes.")
    [text] = [each["message"] for each in conditions(facts) if each["type"] == "Unschedulable"]
    assert text == "replicas without a place: 1 of h100. 0/2 nodes."


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    first = merged([], conditions(Facts(generation=1)), generation=1, now=NOW)
    second = merged(
        first, conditions(Facts(generation=2, record=record())), generation=2, now=LATER
    )
    times = {each["type"]: each["lastTransitionTime"] for each in second}
    assert times["Ready"] == LATER
    assert times["Advising"] == NOW
    assert {each["observedGeneration"] for each in second} == {2}


def test_the_whole_status() -> None:
    made = status(Facts(generation=3, record=record(DEMAND)), {}, NOW)
    assert made["variants"] == [
        {"name": "h100", "desired": 3, "current": 2, "ready": 1, "pending": 1,
         "unschedulable": 0, "draining": 0}
    ]  # fmt: skip
    assert (made["desired"], made["ready"], made["observedGeneration"]) == (3, 1, 3)
    assert made["lastDecisionTime"] == NOW
    assert made["message"] == "h100: demand, load 2.10, need 2.60 replicas"


def test_numbers_in_sentences_are_not_worth_a_write() -> None:
    before = status(Facts(generation=1, record=record(DEMAND)), {}, NOW)
    other = Reason(ReasonKind.DEMAND, "h100", "load 2.11, need 2.61 replicas")
    after = status(Facts(generation=1, record=record(other)), before, LATER)
    assert after != before
    assert material(after) == material(before)
    limited = Reason(ReasonKind.MAX_REPLICAS, "h100", "9 wanted")
    after = status(Facts(generation=1, record=record(limited)), before, LATER)
    assert material(after) != material(before)
