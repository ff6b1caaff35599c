"""What it costs to be ready: a scaler that knows the load ahead, but must start its replicas too.

It has the replicas of the lower bound, ordered early enough, and keeps those that it would have to
order again at once. Between it and the bound are start-ups and draining, which no scaler can do
without; between it and another scaler is what that does not know.
"""

from __future__ import annotations

from dataclasses import replace

from shoal.autoscaler.core.observation import Observation

from .fleet import StartUp
from .oracle import WINDOW_S, CapacityCurve, FixedReplicas, oracle
from .simulate import Outcome, Scenario, simulate

MARGINS = (1.0, 1.05, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
"""Of the load, that are tried: within a minute it is not as even as the bound takes it to be."""
MAX_FIXED = 64


class Clairvoyant:
    """Follows given numbers of replicas, in time."""

    interval_s = 5.0

    def __init__(self, series: list[tuple[float, int]], start_up: StartUp) -> None:
        self.name = "all known ahead"
        self._series = series
        self._ahead_s = start_up.mean_s * (1 + start_up.spread) + self.interval_s

    def desired(self, observation: Observation, now: float) -> int:
        needed = [
            replicas
            for since, replicas in self._series
            if since < now + self._ahead_s and since + WINDOW_S > now
        ]
        return max([*needed, 1])


def clairvoyant(scenario: Scenario, curve: CapacityCurve, attainment: float) -> Outcome:
    """The smallest margin that meets the objective; the largest, if none does."""
    for margin in MARGINS:
        _, series = oracle(scenario, curve, margin=margin)
        first = replace(scenario, first_replicas=max(series[0][1], 1))
        outcome = simulate(first, Clairvoyant(series, scenario.start_up))
        if outcome.attainment >= attainment:
            break
    return outcome


def fixed(scenario: Scenario, attainment: float, *, least: int) -> Outcome:
    """The smallest number of replicas that meets the objective all the time, found with hindsight:
    what a careful operator pays who never scales. By doubling from `least` on, then bisection."""
    low, high = least - 1, max(least, 1)
    while (best := _fixed(scenario, high)).attainment < attainment and high < MAX_FIXED:
        low, high = high, min(high * 2, MAX_FIXED)
    while high - low > 1:
        middle = (low + high) // 2
        outcome = _fixed(scenario, middle)
        if outcome.attainment >= attainment:
            high, best = middle, outcome
        else:
            low = middle
    return best


def _fixed(scenario: Scenario, number: int) -> Outcome:
    return simulate(replace(scenario, first_replicas=number), FixedReplicas(number))
