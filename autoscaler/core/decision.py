"""What was decided, and why."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class ReasonKind(enum.StrEnum):
    """Each names what moved a number of replicas, or kept it from moving."""

    DEMAND = "demand"
    BACKLOG = "backlog"
    HELD = "held"
    IDLE = "idle"
    ENOUGH = "enough"
    """Fewer are enough."""
    CHEAPER = "cheaper"
    """Other variants carry the same for less."""
    SCALE_DOWN_DELAY = "scale_down_delay"
    PACE = "pace"
    MIN_REPLICAS = "min_replicas"
    MAX_REPLICAS = "max_replicas"
    GPU_BUDGET = "gpu_budget"
    UNSCHEDULABLE = "unschedulable"
    """Replicas have no place, and are not counted on."""
    RATIO = "ratio"
    """Prefill and decode: more of one is of no use without the other."""
    SLO_OUT_OF_REACH = "slo_out_of_reach"
    """Even an idle replica is slower than the objective."""
    EDITED = "edited"
    """Somebody else changed the number."""
    NO_METRICS = "no_metrics"


@dataclass(frozen=True, slots=True)
class Reason:
    """One step of a decision; `detail` has its numbers."""

    kind: ReasonKind
    variant: str
    """Or the role, for what concerns all variants of it."""
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Replicas of each variant."""

    desired: dict[str, int]
    valid: bool
    """False: too little is known to decide, and `desired` is what there is already."""
    reasons: tuple[Reason, ...]
    explain: dict[str, float]
    """The numbers behind it, by name, for people and plots."""
