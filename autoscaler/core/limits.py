"""Bounds, pace and GPU budget: the last word on every number."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, floor

from .decision import Reason, ReasonKind
from .observation import VariantObservation
from .spec import ScalingSpec


class Limits:
    """Applied to one variant after another; what one takes of the budget another cannot have.

    A replica holds its GPUs, those of all its pods, from when it is asked for until it is gone.
    """

    def __init__(self, spec: ScalingSpec, seen: Mapping[str, VariantObservation]) -> None:
        """`seen`: as of now, or as they were last."""
        self._spec = spec
        self._seen = seen
        self._variants = {variant.name: variant for variant in spec.variants}
        self._gpus = {name: self._held(here, here.desired) for name, here in seen.items()}

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

    def free(self) -> int | None:
        """GPUs that replicas may have which are asked for: the budget, less what is on its way out.
        None: no budget."""
        if self._spec.gpu_budget is None:
            return None
        return max(self._spec.gpu_budget - sum(map(self._leaving, self._seen.values())), 0)

    def _within_budget(self, name: str, wanted: int, reasons: list[Reason]) -> int:
        """What others hold is theirs; growth fails closed, what runs is never taken for it."""
        each, budget = self._variants[name].gpus_per_replica, self._spec.gpu_budget
        if budget is None or each == 0:
            return wanted
        here = self._seen[name]
        others = sum(gpus for other, gpus in self._gpus.items() if other != name)
        leaving = self._leaving(here)
        most = max((budget - others - leaving) // each, 0)
        if wanted > most and wanted > here.desired:
            allowed = max(most, min(here.desired, wanted))
            held = f"{others + leaving} held by other variants and by replicas on their way out"
            detail = f"{wanted} wanted, {budget} GPUs in all, {held}"
            reasons.append(Reason(ReasonKind.GPU_BUDGET, name, detail))
            wanted = allowed
        self._gpus[name] = self._held(here, wanted)
        return wanted

    def _leaving(self, here: VariantObservation) -> int:
        each = self._variants[here.name].gpus_per_replica
        return self._held(here, here.desired) - here.desired * each

    def _held(self, here: VariantObservation, desired: int) -> int:
        """GPUs of the replicas asked for, or of those that exist where these are more."""
        placed = here.ready + here.pending - here.unschedulable + here.draining
        return max(desired, placed) * self._variants[here.name].gpus_per_replica
