"""A lower bound: what a scaler uses that knows the load ahead and starts replicas at once.

First, by simulation, the largest steady rate that so many replicas serve at the objective: mu(N).
Then for each minute of the load the smallest N with mu(N) at or above that minute's rate. No
scaler can be told less than the rate, so none that meets the objective can use fewer replicas, but
for the luck of a quiet minute.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import replace

from shoal.autoscaler.core.observation import Observation

from .load import stationary
from .simulate import Scenario, simulate

WINDOW_S = 60.0
MEASURED = (1, 2, 3, 4, 6, 8, 12, 16, 24)
"""Numbers of replicas that are simulated; the capacity of a replica beyond the last is its last."""
CALIBRATION_S = 600.0
PRECISION = 0.03


class FixedReplicas:
    """Never scales."""

    interval_s = 60.0

    def __init__(self, replicas: int) -> None:
        self.name = f"{replicas} replicas"
        self._replicas = replicas

    def desired(self, observation: Observation, now: float) -> int:
        return self._replicas


class CapacityCurve:
    """mu(N), requests per second that N replicas serve at the objective."""

    def __init__(self, scenario: Scenario, attainment: float) -> None:
        self._scenario, self._attainment = scenario, attainment
        self._rates: dict[int, float] = {}

    def rate(self, replicas: int) -> float:
        """Interpolated between the numbers that are measured, each on its first use."""
        above = bisect_left(MEASURED, replicas)
        if above == len(MEASURED):
            return self._measured(MEASURED[-1]) * replicas / MEASURED[-1]
        high = MEASURED[above]
        if high == replicas:
            return self._measured(high)
        low = MEASURED[above - 1]
        share = (replicas - low) / (high - low)
        return self._measured(low) * (1 - share) + self._measured(high) * share

    def replicas(self, rate: float) -> int:
        """The fewest that serve a rate; 0 for none."""
        count = 0
        while rate > (self.rate(count) if count else 0.0):
            count += 1
        return count

    def _measured(self, replicas: int) -> float:
        if replicas not in self._rates:
            low = self._rates.get(max((n for n in self._rates if n < replicas), default=0), 0.0)
            high = max(low * 2, 0.5 * replicas)
            while self._holds(high, replicas):
                low, high = high, high * 1.5
            while high - low > PRECISION * high:
                middle = (low + high) / 2
                low, high = (middle, high) if self._holds(middle, replicas) else (low, middle)
            self._rates[replicas] = low
        return self._rates[replicas]

    def _holds(self, rate: float, replicas: int) -> bool:
        requests = stationary(self._scenario.requests, rate, duration_s=CALIBRATION_S)
        if not requests:
            return True
        steady = replace(self._scenario, requests=requests, first_replicas=replicas)
        return simulate(steady, FixedReplicas(replicas)).attainment >= self._attainment


def oracle(
    scenario: Scenario, curve: CapacityCurve, *, margin: float = 1.0
) -> tuple[float, list[tuple[float, int]]]:
    """Replica hours of the bound, and its replicas from each minute on; `margin`: for a load that
    counts so many times."""
    counts = Counter(int(r.arrival_s / WINDOW_S) for r in scenario.requests)
    last = scenario.requests[-1].arrival_s
    steps, hours = [], 0.0
    for window in range(int(last / WINDOW_S) + 1):
        length = min(WINDOW_S, last - window * WINDOW_S)
        if length <= 0:
            break
        replicas = curve.replicas(counts[window] / length * margin)
        steps.append((window * WINDOW_S, replicas))
        hours += replicas * length / 3600
    return hours, steps
