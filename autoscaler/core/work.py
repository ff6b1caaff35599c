"""What a token costs a replica, learnt from how fast replicas answer.

A decode step takes `base` seconds, and longer by every prompt token computed in it and by every
request in the batch. With x_in prompt tokens and x_out output tokens per second on a replica,

    tpot = base + in_s * (tpot * x_in) + out_s * running,      running = tpot * x_out

so tpot = base / (1 - load) with load = in_s * x_in + out_s * x_out: the share of a replica's time
that its tokens take. `in_s` and `out_s` make one number of prompts and answers, which adds up over
requests and divides among replicas. Fitted by least squares with forgetting, towards a prior while
little is known.
"""

from __future__ import annotations

from dataclasses import dataclass

FORGETTING = 0.995
"""Of each observation; some 200 of them count."""
LEAST_OF_PRIOR = 0.01
"""No coefficient is believed to be less than so much of the prior's: nothing is free."""
PRIOR_WEIGHT = 3.0
"""Observations that the prior counts for."""
PRIOR_LOAD = 0.3
"""Of a replica in them, where the load itself is what is seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCost:
    """Seconds of a replica's time."""

    base_s: float
    in_s: float
    out_s: float

    def load(self, input_tokens_per_s: float, output_tokens_per_s: float) -> float:
        """Share of one replica's time: above 1 no single replica can do it."""
        return self.in_s * input_tokens_per_s + self.out_s * output_tokens_per_s

    def max_load(self, tpot_s: float) -> float:
        """The load at which a token takes so long."""
        return max(1 - self.base_s / tpot_s, 0.0)


PRIOR = TokenCost(base_s=0.008, in_s=8e-5, out_s=2e-4)
"""A GPU of the day with a model of 8B; a few observations of any other replace it."""


class TokenCosts:
    """Learns one variant's `TokenCost`."""

    def __init__(self, prior: TokenCost = PRIOR) -> None:
        self._prior = prior
        # Normal equations of the relative errors; the prior holds each coefficient to its value.
        beliefs = (prior.base_s, prior.in_s, prior.out_s)
        self._a = [[0.0] * 3 for _ in range(3)]
        self._b = [0.0] * 3
        for i, belief in enumerate(beliefs):
            self._a[i][i] = PRIOR_WEIGHT * 0.05 / belief**2 * 1e-2
            self._b[i] = self._a[i][i] * belief
        self.cost = prior
        self.num_observations = 0

    def observe(
        self, *, input_tokens_per_s: float, output_tokens_per_s: float, running: float,
        waiting: float = 0.0,
    ) -> None:  # fmt: skip
        """One interval of one replica, means; one without output tells nothing."""
        if output_tokens_per_s <= 0 or running <= 0:
            return
        tpot = running / output_tokens_per_s
        features = (1.0 / tpot, input_tokens_per_s, running / tpot)
        for i in range(3):
            for j in range(3):
                self._a[i][j] = FORGETTING * self._a[i][j] + features[i] * features[j]
            self._b[i] = FORGETTING * self._b[i] + features[i]
        self.num_observations += 1
        self.cost = self._solve()

    def _solve(self) -> TokenCost:
        """The coefficients, none below 0: those that would be are left out, one at a time."""
        active = [0, 1, 2]
        while active:
            values = _solve([[self._a[i][j] for j in active] for i in active],
                            [self._b[i] for i in active])  # fmt: skip
            worst = min(range(len(active)), key=values.__getitem__)
            if values[worst] > 0:
                found = dict(zip(active, values, strict=True))
                least = (self._prior.base_s, self._prior.in_s, self._prior.out_s)
                base_s, in_s, out_s = (
                    max(found.get(i, 0.0), LEAST_OF_PRIOR * least[i]) for i in range(3)
                )
                return TokenCost(base_s=base_s, in_s=in_s, out_s=out_s)
            del active[worst]
        return self._prior


class PromptCosts:
    """Learns what a prompt token costs a replica that only prefills: such a one has no TPOT.

    Prompts that share a replica's time number load / (1 - load) on average, those that wait
    included, whatever their lengths (Kleinrock, "Queueing Systems" volume 2, 1976, on processor
    sharing). So their number tells the load, and the load over the tokens the cost of one.
    """

    def __init__(self, prior: TokenCost = PRIOR) -> None:
        self._tokens = PRIOR_WEIGHT * PRIOR_LOAD / prior.in_s
        self._load = PRIOR_WEIGHT * PRIOR_LOAD
        self.cost = TokenCost(base_s=prior.base_s, in_s=prior.in_s, out_s=0.0)
        self.num_observations = 0

    def observe(
        self, *, input_tokens_per_s: float, output_tokens_per_s: float, running: float,
        waiting: float = 0.0,
    ) -> None:  # fmt: skip
        """One interval of one replica, means; one without prompts tells nothing."""
        if input_tokens_per_s <= 0:
            return
        load = (running + waiting) / (1 + running + waiting)
        self._tokens = FORGETTING * self._tokens + input_tokens_per_s
        self._load = FORGETTING * self._load + load
        self.num_observations += 1
        self.cost = TokenCost(base_s=self.cost.base_s, in_s=self._load / self._tokens, out_s=0.0)


def _solve(matrix: list[list[float]], vector: list[float]) -> list[float]:
    """Gaussian elimination; the matrices are symmetric and positive definite."""
    n = len(vector)
    rows = [[*row, value] for row, value in zip(matrix, vector, strict=True)]
    for i in range(n):
        pivot = max(rows[i][i], 1e-300)
        for k in range(i + 1, n):
            factor = rows[k][i] / pivot
            for j in range(i, n + 1):
                rows[k][j] -= factor * rows[i][j]
    solution = [0.0] * n
    for i in reversed(range(n)):
        rest = sum(rows[i][j] * solution[j] for j in range(i + 1, n))
        solution[i] = (rows[i][n] - rest) / max(rows[i][i], 1e-300)
    return solution
