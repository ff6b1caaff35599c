"""How long an endpoint takes to its first token, learnt from what it has served.

For each endpoint `ttft_s = base_s + token_s * tokens + running_s * num_running` is fitted, where
`tokens` are the uncached tokens of the prompt and of the prompts ahead of it: recursive least
squares with forgetting (Ljung, "System Identification", chapter 11), three unknowns. Errors count
relative to the measured time, so 5 ms and 5 s weigh alike; a single outlier moves nothing far
(Huber, 1964); coefficients stay inside bounds that physics gives. An endpoint that nobody has
measured is taken for the fleet's average, and one that nobody has measured lately drifts back
there: what was slow an hour ago gets another chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Coefficients(NamedTuple):
    """What `ttft_s` of one endpoint is made of, as used in decisions."""

    base_s: float
    """Of a prompt without uncached tokens on an idle endpoint."""
    token_s: float
    """Each uncached token, its own or ahead of it."""
    running_s: float
    """Each other request there."""
    waiting_s: float
    """Each request that waits in the worker's own queue."""


PRIOR = Coefficients(base_s=0.02, token_s=1e-4, running_s=5e-4, waiting_s=0.05)
"""A mid-size model on a GPU; forgotten after a few requests of the fleet."""
LOWEST = Coefficients(base_s=1e-4, token_s=1e-7, running_s=0.0, waiting_s=1e-4)
HIGHEST = Coefficients(base_s=60.0, token_s=0.1, running_s=10.0, waiting_s=60.0)

FORGETTING = 0.98
"""Weight of an observation after each later one: the last 50 count."""
MAX_RELATIVE_ERROR = 1.0
"""Larger ones count as this large."""
HALF_LIFE_S = 60.0
"""Trust in an endpoint's own numbers without a new observation."""
TRUST_AFTER = 2.0
"""Observations after which its own numbers weigh as much as the fleet's."""
REFRESH_S = 0.5
"""How often the fleet's average and the ages are worked in."""
TOKENS = 1e3
RUNNING = 10.0
"""Units in which the fit counts tokens and requests, so that its numbers are of one size."""


class Fit:
    """Recursive least squares for one endpoint, written out: 3 us an observation."""

    __slots__ = (
        "base", "duration_s", "num_observed", "observed_at", "p00", "p01", "p02", "p11", "p12",
        "p22", "running", "tokens",
    )  # fmt: skip

    def __init__(self, start: Coefficients) -> None:
        self.base = start.base_s
        self.tokens = start.token_s * TOKENS
        self.running = start.running_s * RUNNING
        # Prior variance: the coefficients may well be ten times off.
        self.p00 = (10 * self.base) ** 2
        self.p11 = (10 * self.tokens) ** 2
        self.p22 = (10 * self.running) ** 2
        self.p01 = self.p02 = self.p12 = 0.0
        self.num_observed = 0
        self.observed_at = 0.0
        self.duration_s: float | None = None

    def observe(self, ttft_s: float, num_tokens: float, num_running: float) -> None:
        """One measured first token."""


class TTFTModels:
    """The fits of all endpoints. `coefficients` are ready for use in decisions."""

    def __init__(self, *, prior: Coefficients = PRIOR) -> None:
        self.prior = prior
        self.default = prior
        """Of an endpoint that is not in `coefficients`."""
        self.coefficients: dict[str, Coefficients] = {}
        self._fits: dict[str, Fit] = {}

    def observe(
        self,
        endpoint_id: str,
        ttft_s: float,
        *,
        uncached_tokens: int,
        tokens_ahead: int,
        num_running: int,
        num_waiting: int = 0,
        now: float,
    ) -> None:
        """A first token came `ttft_s` after its request was sent.

        `uncached_tokens`: of its prompt, as the worker reported them, or as the decision expected.
        `tokens_ahead`, `num_running`, `num_waiting`: the endpoint's `in_flight_prefill_tokens`,
        `in_flight` and `metrics.num_requests_waiting` when it was chosen. Times that are not
        positive and finite are ignored.
        """

    def finished(self, endpoint_id: str, duration_s: float) -> None:
        """A request ended `duration_s` after it was sent: how fast a queue there moves."""

    def estimate(
        self, endpoint_id: str, *, uncached_tokens: int, tokens_ahead: int = 0, num_running: int = 0
    ) -> float:
        """Seconds to the first token there."""
        own = self.coefficients.get(endpoint_id, self.default)
        return (
            own.base_s
            + own.token_s * (uncached_tokens + tokens_ahead)
            + own.running_s * num_running
        )

    def forget(self, endpoint_id: str) -> None:
        """The endpoint is gone, or another process answers at its address."""
        self._fits.pop(endpoint_id, None)
        self.coefficients.pop(endpoint_id, None)

    def refresh(self, now: float) -> None:
        """Work in the fleet's average and the age of what is known; cheap between `REFRESH_S`."""

    def snapshot(self) -> Mapping[str, Coefficients]:
        """For debug pages: a copy."""
        return dict(self.coefficients)
