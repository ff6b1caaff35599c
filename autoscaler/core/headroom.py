"""How many replicas keep the objective at a load: the load itself and learnt headroom over it.

Requests come at random, so replicas that are just enough on average are too few half of the time.
Halfin and Whitt ("Heavy-traffic limits for queues with many exponential servers", Operations
Research 29, 1981) show what is enough: a load of R servers needs R + beta * sqrt(R), with one beta
for a given quality of service, whatever R. Errors of forecasts grow like that too, in units of
chance, so one number is learnt for both: from the share of requests that missed the objective while
it was in force. It moves by what was missed beyond what the objective forgives, or below (the
stochastic approximation of Robbins and Monro, 1951), and so comes to rest where just as many are
missed as may be.
"""

from __future__ import annotations

from math import ceil, sqrt

FIRST_BETA = 0.9
LEAST_BETA, MOST_BETA = 0.5, 3.0
"""More never helped: what fails there fails for other reasons."""
SPENT = 0.7
"""Of what the objective forgives; the rest is kept, for what a shortage costs is learnt late."""
PER_MINUTE = 0.03
"""beta's move in a minute, for each time over that as many are missed as the objective forgives."""
MOST_MISSED = 15.0
"""Times over that count at most in an interval: one shortage is not the rule."""
MOST_WEIGHT = 3.0
MEAN_RATE = 0.01
FREE_SPREAD = 2.0
"""Errors of forecasts so many times those of chance are covered by beta alone."""


class Headroom:
    """One pool of replicas."""

    def __init__(self, attainment: float) -> None:
        self._attainment = attainment
        self._mean_requests = 0.0
        self.beta = FIRST_BETA

    def observe(self, *, interval_s: float, num_requests: int, num_in_time: int) -> None:
        """Requests that were judged in the interval; busy intervals count more than quiet ones."""
        if num_requests <= 0:
            return
        if not self._mean_requests:
            self._mean_requests = num_requests
        self._mean_requests += MEAN_RATE * (num_requests - self._mean_requests)
        weight = min(num_requests / self._mean_requests, MOST_WEIGHT)
        missed = times_missed(num_requests, num_in_time, attainment=self._attainment)
        move = PER_MINUTE * interval_s / 60 * weight * (missed - SPENT)
        self.beta = min(max(self.beta + move, LEAST_BETA), MOST_BETA)

    def replicas(self, load: float, *, spread: float = 1.0) -> float:
        """Enough for a load, before it is made a whole number."""
        return load + self.beta * max(spread / FREE_SPREAD, 1.0) * sqrt(max(load, 0.0))


def times_missed(num_requests: int, num_in_time: int, *, attainment: float) -> float:
    """How many times over as many were missed as the objective forgives."""
    return min((1 - num_in_time / num_requests) / (1 - attainment), MOST_MISSED)


def whole(replicas: float) -> int:
    """Whole replicas, with a grain of salt for rounding errors."""
    return ceil(replicas - 1e-6)
