"""How many replicas keep the objective at a given load: learnt headroom over the load itself.

Requests come at random, so replicas that are just enough on average are too few half of the time.
Halfin and Whitt ("Heavy-traffic limits for queues with many exponential servers", Operations
Research 29, 1981) show what is enough: a load of R servers needs R + beta * sqrt(R), with one beta
for a given quality of service, whatever R. So beta is what there is to learn, from the share of
requests that met the objective at each headroom, and it holds for loads not yet seen.
"""

from __future__ import annotations

from math import ceil, exp, sqrt

BIN = 0.2
NUM_BINS = 25
"""Headrooms from 0 to 5."""
MEMORY_S = 1800.0
"""What is known fades by a factor e in so long."""
ENOUGH = 150.0
"""Requests that make a bin's share worth something."""
FIRST_BETA = 1.0
MAX_BETA = 3.0
"""More never helped: what fails there fails for other reasons."""
ENOUGH_TO_TRY = 500.0
"""Requests that must have done well before less headroom is tried."""
TRIED = 1.2
"""Replicas fewer that are tried at a time."""


def headroom(replicas: float, load: float) -> float:
    """beta of so many replicas at a load of so many."""
    return (replicas - load) / sqrt(max(load, 0.05))


class Staffing:
    """Shares of requests that met the objective, by headroom."""

    def __init__(self, attainment: float, first_beta: float = FIRST_BETA) -> None:
        # Changes of load and cold starts spend some of what the objective forgives.
        self._allowed = (1 - attainment) / 2
        self._total = [0.0] * NUM_BINS
        self._met = [0.0] * NUM_BINS
        self._first = first_beta
        self.beta = first_beta
        self._may_try = False
        self._bad_below = 0.0

    def observe(
        self, beta: float, *, num_requests: int, num_in_time: int, interval_s: float
    ) -> None:
        """Requests that got their first token while there was such headroom."""
        index = min(max(int(beta / BIN), 0), NUM_BINS - 1)
        kept = exp(-interval_s / MEMORY_S)
        for i in range(NUM_BINS):
            self._total[i] *= kept
            self._met[i] *= kept
        self._total[index] += num_requests
        self._met[index] += num_in_time
        self._learn()

    def replicas(self, load: float, *, caution: float = 0.0) -> float:
        """Enough for a load, before it is made a whole number; `caution`: headroom on top."""
        if load <= 0:
            return 0.0
        step = TRIED / sqrt(load) if self._may_try else 0.0
        beta = max(self.beta - step, self._bad_below) + caution
        return load + beta * sqrt(load)

    def _learn(self) -> None:
        """The least headroom that is known to be good, and whether less may be tried.

        Less is tried where many requests did twice as well as asked for; a headroom known to be bad
        bounds it from below.
        """
        known = [i for i in range(NUM_BINS) if self._total[i] >= ENOUGH]
        if not known:
            return
        failing = dict(zip(known, (1 - share for share in self._isotonic(known)), strict=True))
        good = [i for i in known if failing[i] <= self._allowed]
        surely = [i for i in known if self._is_surely_bad(failing[i], self._total[i])]
        if not good:
            self._may_try = False
            if surely:
                self.beta = min(max(self.beta, (surely[-1] + 1.5) * BIN), MAX_BETA)
            return
        least = good[0]
        self._may_try = self._total[least] >= ENOUGH_TO_TRY and failing[least] <= self._allowed / 2
        bad = [i for i in surely if i < least]
        self._bad_below = (bad[-1] + 1) * BIN if bad else 0.0
        # Known by few: to be known by more, it must be visited.
        place = 0.5 if self._may_try else 0.0
        self.beta = min(max((least + place) * BIN, self._bad_below), MAX_BETA)

    def _is_surely_bad(self, share: float, num_requests: float) -> bool:
        """Beyond chance; requests fail in clumps, so the usual error is doubled."""
        return share - 2 * 1.65 * sqrt(share / num_requests) > self._allowed

    def _isotonic(self, known: list[int]) -> list[float]:
        """Shares by headroom made to never fall: pool adjacent violators (Ayer et al., 1955)."""
        pools: list[tuple[float, float, int]] = []
        for i in known:
            pools.append((self._met[i], self._total[i], 1))
            while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
                met, total, size = pools.pop()
                pools[-1] = (pools[-1][0] + met, pools[-1][1] + total, pools[-1][2] + size)
        return [met / total for met, total, size in pools for _ in range(size)]


def whole(replicas: float) -> int:
    """Whole replicas, with a grain of salt for rounding errors."""
    return ceil(replicas - 1e-6)
