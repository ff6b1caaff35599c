"""The Horizontal Pod Autoscaler on requests per replica, from Kubernetes' documentation.

desired = ceil(replicas * metric / target), left alone within 10 %; replicas that are not ready
count as idle when that would scale up. Scaling up is bounded by 4 pods or 100 % in 15 s, whichever
is more; scaling down takes the highest recommendation of the last 5 minutes.
(kubernetes.io: Horizontal Pod Autoscaling, "Algorithm details" and "Default behavior".)
"""

from __future__ import annotations

from math import ceil

from shoal.autoscaler.core.observation import Observation
from shoal.autoscaler.core.window import MaxWindow

TOLERANCE = 0.1
STABILIZATION_S = 300.0


class HpaBehavior:
    """From a recommendation to a number: bounds, the pace up, the stabilization down."""

    def __init__(self, min_replicas: int, max_replicas: int) -> None:
        self._min, self._max = min_replicas, max_replicas
        self._recommended = MaxWindow(STABILIZATION_S)
        self._has_begun = False

    def apply(self, recommended: int, present: int, now: float) -> int:
        if not self._has_begun:  # what it finds at its start counts as recommended
            self._has_begun = True
            self._recommended.add(now, present)
        recommended = min(max(recommended, self._min), self._max)
        highest = int(self._recommended.add(now, recommended))
        if recommended > present:
            return min(recommended, max(present + 4, present * 2))
        return min(highest, present)


class Hpa:
    """Scales on the running and waiting requests of a replica, `target` of them each."""

    interval_s = 15.0

    def __init__(self, target: float, *, min_replicas: int = 1, max_replicas: int = 64) -> None:
        self.name = f"HPA {target:g} requests"
        self._target = target
        self._behavior = HpaBehavior(min_replicas, max_replicas)

    def desired(self, observation: Observation, now: float) -> int:
        seen = observation.variants[0]
        total = (seen.num_running or 0.0) + (seen.num_waiting or 0.0)
        recommended = seen.desired
        if seen.ready:
            ratio = total / seen.ready / self._target
            if ratio > 1:
                # Pods that are not ready take part with 0 of the metric.
                replicas = seen.ready + seen.pending
                damped = total / replicas / self._target
                ratio = damped if damped > 1 else 1.0
            else:
                replicas = seen.ready
            if abs(ratio - 1) > TOLERANCE:
                recommended = ceil(replicas * ratio)
        return self._behavior.apply(recommended, seen.desired, now)
