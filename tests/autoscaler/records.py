"""Decision records as tests need them."""

from __future__ import annotations

from typing import Any

from shoal.autoscaler.core.decision import Decision, Reason, ReasonKind
from shoal.autoscaler.core.observation import Observation, VariantObservation
from shoal.autoscaler.record.decision_record import DecisionRecord

WALL = 1_700_000_000.0


def make_observation(**changes: Any) -> Observation:
    """5 s with 10 requests, 500 tokens out, 8 of 10 first tokens in time, 2 replicas of 3 ready."""
    variant = VariantObservation(
        name="default", desired=3, ready=2, pending=1, num_first_tokens=10, num_in_time=8
    )
    observation: dict[str, Any] = {
        "interval_s": 5.0, "arrivals": 10, "input_tokens": 1000, "output_tokens": 500, "queued": 4,
        "held": 0, "variants": (variant,),
    }  # fmt: skip
    return Observation(**(observation | changes))


def make_record(now: float = 100.0, **changes: Any) -> DecisionRecord:
    """From 3 replicas to 4, with one reason."""
    record: dict[str, Any] = {
        "time": WALL + now, "now": now, "model": "m", "mode": "auto", "spec_hash": "0" * 12,
        "observation": make_observation(),
        "decision": Decision(
            desired={"default": 4}, valid=True,
            reasons=(Reason(ReasonKind.DEMAND, "default", "load 2.50"),),
            explain={"default.load": 2.5, "arrivals_per_s": 2.0},
        ),
        "before": {"default": 3}, "applied": True,
    }  # fmt: skip
    return DecisionRecord(**(record | changes))
