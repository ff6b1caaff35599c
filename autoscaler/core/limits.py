"""Bounds, pace and GPU budget: the last word on every number."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, floor

from .decision import Reason, ReasonKind
from .observation import VariantObservation
from .spec import ScalingSpec


class Limits:
    """Applied to one variant after another; what one takes of the budget another cannot have."""

    def __init__(self, spec: ScalingSpec, seen: Mapping[str, VariantObservation]) -> None:
        self._spec = spec
        self._seen = seen
        self._variants = {variant.name: variant for variant in spec.variants}
        self._gpus = {
            name: here.desired * self._variants[name].gpus_per_replica
            for name, here in seen.items()
            if name in self._variants
        }

    def apply(self, name: str, wanted: int, reasons: list[Reason]) -> int:
        """The number nearest to `wanted` that is allowed; says what held it back."""
        here, variant, pace = self._seen[name], self._variants[name], self._spec.pace
        allowed = wanted
        most = max(ceil(here.desired * pace.max_up_factor), here.desired + pace.max_up_step)
        if here.desired and here.ready:
            least = here.desired - max(floor(here.desired * pace.max_down_share), 1)
        else:
            least = 0
        if allowed > most or allowed < least:
            allowed = min(max(allowed, least), most)
            reasons.append(Reason(ReasonKind.PACE, name, f"{wanted} wanted, {allowed} in one step"))
        if allowed > variant.max_replicas:
            allowed = variant.max_replicas
            reasons.append(Reason(ReasonKind.MAX_REPLICAS, name, f"{wanted} wanted"))
        if allowed < variant.min_replicas:
            allowed = variant.min_replicas
            reasons.append(Reason(ReasonKind.MIN_REPLICAS, name, f"{wanted} wanted"))
        return self._within_budget(name, allowed, reasons)

    def _within_budget(self, name: str, wanted: int, reasons: list[Reason]) -> int:
        """What others hold is theirs; growth fails closed, what runs is never taken for it."""
        each, budget = self._variants[name].gpus_per_replica, self._spec.gpu_budget
        if budget is None or each == 0:
            return wanted
        others = sum(gpus for other, gpus in self._gpus.items() if other != name)
        most = max((budget - others) // each, 0)
        present = self._seen[name].desired
        if wanted > most and wanted > present:
            allowed = max(most, min(present, wanted))
            detail = f"{wanted} wanted, {budget} GPUs in all, {others} held by other variants"
            reasons.append(Reason(ReasonKind.GPU_BUDGET, name, detail))
            wanted = allowed
        self._gpus[name] = wanted * each
        return wanted
