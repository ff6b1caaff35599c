"""Knative's Pod Autoscaler on concurrency, from Knative's documentation and design.

Average concurrency over a stable window of 60 s and a panic window of 6 s, a target utilisation of
70 %. Panic mode begins when the panic window asks for twice the ready replicas, keeps the most it
has asked for, and ends when the stable window has not asked for it for 60 s. Rates: up to 1000
times, down to half. (knative.dev: "Additional autoscaling configuration for Knative Pod
Autoscaler".)
"""

from __future__ import annotations

from collections import deque
from math import ceil

from shoal.autoscaler.core.observation import Observation

STABLE_S, PANIC_S = 60.0, 6.0
UTILISATION = 0.7
PANIC_THRESHOLD = 2.0
MAX_UP, MAX_DOWN = 1000.0, 2.0


class Kpa:
    """Scales on the requests inside the system, `target` of them a replica at full use."""

    interval_s = 2.0

    def __init__(self, target: float, *, min_replicas: int = 1, max_replicas: int = 64) -> None:
        self.name = f"KPA {target:g} requests"
        self._target = target * UTILISATION
        self._min, self._max = min_replicas, max_replicas
        self._samples: deque[tuple[float, float]] = deque()
        self._panic_since: float | None = None
        self._most = 0

    def desired(self, observation: Observation, now: float) -> int:
        seen = observation.variants[0]
        total = (seen.num_running or 0.0) + (seen.num_waiting or 0.0) + observation.backlog
        self._samples.append((now, total))
        while self._samples[0][0] <= now - STABLE_S:
            self._samples.popleft()
        recent = [value for at, value in self._samples if at > now - PANIC_S]
        stable = sum(value for _, value in self._samples) / len(self._samples)
        ready = max(seen.ready, 1)

        def bounded(average: float) -> int:
            wanted = ceil(average / self._target)
            return min(max(wanted, int(ready / MAX_DOWN)), ceil(ready * MAX_UP))

        desired_stable, desired_panic = bounded(stable), bounded(sum(recent) / len(recent))
        if desired_panic / ready >= PANIC_THRESHOLD:
            self._panic_since = now
            self._most = max(self._most, desired_panic)
        elif self._panic_since is not None and now - self._panic_since > STABLE_S:
            self._panic_since, self._most = None, 0
        desired = desired_stable
        if self._panic_since is not None:
            self._most = max(self._most, desired_panic)
            desired = self._most
        return min(max(desired, self._min), self._max)
