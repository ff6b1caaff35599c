"""What a scaler is to the simulator."""

from __future__ import annotations

from typing import Protocol

from shoal.autoscaler.core.observation import Observation


class Policy(Protocol):
    """Says how many replicas there should be; keeps what it needs to know."""

    name: str
    interval_s: float
    """How often it is asked."""

    def desired(self, observation: Observation, now: float) -> int: ...
