"""KEDA on the queue's length, as serving stacks set it up for vLLM: waiting requests a replica.

KEDA hands the HPA an external metric with an average value as target: desired =
ceil(metric / target), the HPA's tolerance, pace and 5 minutes of stabilization around it.
(keda.sh: "Scaling Deployments"; the production stack's example scales on
`vllm:num_requests_waiting`, 5 a replica.)
"""

from __future__ import annotations

from math import ceil

from shoal.autoscaler.core.observation import Observation

from .hpa import TOLERANCE, HpaBehavior


class KedaQueue:
    """Scales on requests that wait, `target` of them a replica."""

    interval_s = 15.0

    def __init__(self, target: float, *, min_replicas: int = 1, max_replicas: int = 64) -> None:
        self.name = f"KEDA {target:g} waiting"
        self._target = target
        self._behavior = HpaBehavior(min_replicas, max_replicas)

    def desired(self, observation: Observation, now: float) -> int:
        seen = observation.variants[0]
        waiting = (seen.num_waiting or 0.0) + observation.backlog
        ratio = waiting / (self._target * max(seen.desired, 1))
        recommended = seen.desired
        if abs(ratio - 1) > TOLERANCE:
            recommended = ceil(waiting / self._target)
        return self._behavior.apply(recommended, seen.desired, now)
