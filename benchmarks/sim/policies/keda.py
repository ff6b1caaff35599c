"""KEDA on the queue's length, as serving stacks set it up for vLLM: waiting requests a replica.

KEDA hands the HPA an external metric with an average value as target: desired =
ceil(metric / target), the HPA's tolerance, pace and 5 minutes of stabilization around it.
(keda.sh: "Scaling Deployments"; the production stack's example scales on
`vllm:num_requests_waiting`, 5 a replica.)
"""

from __future__ import annotations

from math import ceil

from shoal.autoscaler.core.observation import Observation
from shoal.autoscaler.core.window import MaxWindow

from .hpa import STABILIZATION_S, TOLERANCE


class KedaQueue:
    """Scales on requests that wait, `target` of them a replica."""

    interval_s = 15.0

    def __init__(self, target: float, *, min_replicas: int = 1, max_replicas: int = 64) -> None:
        self.name = f"KEDA {target:g} waiting"
        self._target = target
        self._min, self._max = min_replicas, max_replicas
        self._recommended = MaxWindow(STABILIZATION_S)

    def desired(self, observation: Observation, now: float) -> int:
        seen = observation.variants[0]
        waiting = (seen.num_waiting or 0.0) + observation.backlog
        ratio = waiting / (self._target * max(seen.desired, 1))
        recommended = seen.desired
        if abs(ratio - 1) > TOLERANCE:
            recommended = ceil(waiting / self._target)
        recommended = min(max(recommended, self._min), self._max)
        highest = int(self._recommended.add(now, recommended))
        if recommended > seen.desired:
            return min(recommended, max(seen.desired + 4, seen.desired * 2))
        return min(highest, seen.desired)
