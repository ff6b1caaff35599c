"""Shoal's own decisions: the code that runs in production."""

from __future__ import annotations

from shoal.autoscaler.core.decision import Decision
from shoal.autoscaler.core.observation import Observation
from shoal.autoscaler.core.scaler import decide
from shoal.autoscaler.core.spec import ScalingSpec
from shoal.autoscaler.core.state import ScalerState


class ShoalPolicy:
    name = "Shoal"

    def __init__(self, spec: ScalingSpec, *, interval_s: float = 5.0) -> None:
        self.interval_s = interval_s
        self._spec = spec
        self._state = ScalerState.of(spec)
        self.last: Decision | None = None

    def desired(self, observation: Observation, now: float) -> int:
        self.last = decide(self._spec, observation, self._state, now)
        return self.last.desired[self._spec.variants[0].name]
