"""How long an endpoint takes to its first token, learnt from what it has served.

`ttft_s = base_s + token_s * tokens + running_s * num_running`, where `tokens` are the uncached
tokens of the prompt and of the prompts ahead of it. Two levels: one fit over the whole fleet, and
one for each endpoint, which starts from the fleet's and departs from it as far as the endpoint's
own times say. So a new endpoint is taken for an average one, a few of its requests show that it
is twice as fast, and noise alone hardly tells two equal ones apart. What nobody has measured
lately drifts back to the fleet's: an endpoint that was slow a minute ago gets another chance.

Each fit is a Kalman filter (1960) whose three unknowns drift, so old observations fade. Errors
count relative to what was expected, so 5 ms and 5 s weigh alike; one that is far too long counts
as twice what was expected (Huber, 1964); the unknowns stay inside bounds that physics gives.
"""

from __future__ import annotations

from math import exp2, log
from typing import Final


class Coefficients:
    """What `ttft_s` of one endpoint is made of, as used in decisions."""

    __slots__ = ("base_s", "running_s", "token_s", "waiting_s")

    def __init__(self, base_s: float, token_s: float, running_s: float, waiting_s: float) -> None:
        self.base_s: Final = base_s
        """Of a prompt without uncached tokens on an idle endpoint."""
        self.token_s: Final = token_s
        """Each uncached token, its own or ahead of it."""
        self.running_s: Final = running_s
        """Each other request there."""
        self.waiting_s: Final = waiting_s
        """Each request that waits in the worker's own queue."""


PRIOR: Final = Coefficients(base_s=0.02, token_s=1e-4, running_s=5e-4, waiting_s=0.05)
"""A mid-size model on a GPU; forgotten after a few requests of the fleet."""
LOWEST: Final = Coefficients(base_s=1e-4, token_s=1e-7, running_s=0.0, waiting_s=1e-4)
HIGHEST: Final = Coefficients(base_s=60.0, token_s=0.1, running_s=10.0, waiting_s=60.0)

NOISE: Final = 0.4
"""Standard deviation of a measured time, relative to what was expected."""
DRIFT: Final = 0.03
"""Of each unknown from one observation to the next, relative: about the last 20 count."""
MAX_RELATIVE_ERROR: Final = 1.0
"""Larger ones count as this large."""
SURPRISE: Final = 2.0
"""How much more uncertain (as a variance) all is after such an error."""
HALF_LIFE_S: Final = 60.0
"""Trust in an endpoint's own numbers without a new observation."""
FLEET_FIRST: Final = 12
"""Observations of the fleet before endpoints are told apart."""
FLEET_SPREAD: Final = 10.0
ENDPOINT_SPREAD: Final = 1.0
"""Standard deviation of each unknown before any observation, relative: of the fleet's, and of an
endpoint's around the fleet's."""
SAME, OTHER = log(1.25), log(1.6)
"""Times of 1,000 tokens that differ by less than the first are taken for equal, by more than the
second for what they are."""
REFRESH_S: Final = 0.5
"""How often the fleet's average and the ages are worked in."""
LONGEST_S: Final = 3600.0
"""A longer time is a mistake."""
TOKENS: Final = 1e3
RUNNING: Final = 10.0
"""Units in which the fit counts tokens and requests, so that its numbers are of one size."""


class Fit:
    """The filter of one endpoint, written out: 3 us an observation."""

    __slots__ = (
        "base", "cap_base", "cap_running", "cap_tokens", "duration_s", "num_observed",
        "num_running", "observed_at", "p00", "p01", "p02", "p11", "p12", "p22", "running",
        "start_waiting_s", "tokens",
    )  # fmt: skip

    def __init__(self, start: Coefficients, spread: float) -> None:
        self.base = start.base_s
        self.tokens = start.token_s * TOKENS
        self.running = start.running_s * RUNNING
        self.cap_base = self.p00 = (spread * self.base) ** 2
        self.cap_tokens = self.p11 = (spread * self.tokens) ** 2
        # The contention may have been learnt to be none, and is not certain to be.
        self.cap_running = self.p22 = (spread * max(self.running, 0.1 * self.base)) ** 2
        self.p01 = self.p02 = self.p12 = 0.0
        self.num_observed = 0
        self.observed_at = 0.0
        self.duration_s: float | None = None
        self.num_running = 0.0
        self.start_waiting_s = start.waiting_s

    def observe(self, ttft_s: float, num_tokens: float, num_running: float) -> None:
        """One measured first token."""
        # x = (1, t, r); px = P x; gain = px / (noise + x' P x).
        t = num_tokens / TOKENS
        r = num_running / RUNNING
        expected = self.base + self.tokens * t + self.running * r
        error = ttft_s - expected
        most = MAX_RELATIVE_ERROR * expected
        is_surprise = error > most
        if is_surprise:
            error = most
        px0 = self.p00 + self.p01 * t + self.p02 * r
        px1 = self.p01 + self.p11 * t + self.p12 * r
        px2 = self.p02 + self.p12 * t + self.p22 * r
        noise = NOISE * expected
        variance = noise * noise + px0 + px1 * t + px2 * r
        k0, k1, k2 = px0 / variance, px1 / variance, px2 / variance
        self.base = base = min(max(self.base + k0 * error, LOWEST.base_s), HIGHEST.base_s)
        self.tokens = tokens = min(
            max(self.tokens + k1 * error, LOWEST.token_s * TOKENS), HIGHEST.token_s * TOKENS
        )
        self.running = running = min(
            max(self.running + k2 * error, 0.0), HIGHEST.running_s * RUNNING
        )
        if is_surprise:
            # Either a mistake, or nothing is as it was: the next ones will tell, and count more.
            if self.p00 < base * base and self.p11 < tokens * tokens:
                self.p00 *= SURPRISE
                self.p01 *= SURPRISE
                self.p02 *= SURPRISE
                self.p11 *= SURPRISE
                self.p12 *= SURPRISE
                self.p22 *= SURPRISE
        else:
            # What was learnt takes uncertainty away.
            self.p00 -= k0 * px0
            self.p01 -= k0 * px1
            self.p02 -= k0 * px2
            self.p11 -= k1 * px1
            self.p12 -= k1 * px2
            self.p22 -= k2 * px2
        # Time, that is each observation, brings some back, but never more than there was at first:
        # an unknown that nothing tells of stays as it is.
        if self.p00 < self.cap_base:
            self.p00 += (DRIFT * base) ** 2
        if self.p11 < self.cap_tokens:
            self.p11 += (DRIFT * tokens) ** 2
        if self.p22 < self.cap_running:
            self.p22 += (DRIFT * running) ** 2
        self.num_observed += 1
        self.num_running += (num_running - self.num_running) / min(self.num_observed, 20)

    def finished(self, duration_s: float) -> None:
        """One request ended."""
        known = self.duration_s
        self.duration_s = duration_s if known is None else known + 0.05 * (duration_s - known)

    def waiting_s(self) -> float:
        """A queued request waits for one of those that run to end."""
        if self.duration_s is None:
            return self.start_waiting_s
        waiting_s = self.duration_s / (1.0 + self.num_running)
        return min(max(waiting_s, LOWEST.waiting_s), HIGHEST.waiting_s)

    def coefficients(self) -> Coefficients:
        """As it stands."""
        return Coefficients(
            self.base, self.tokens / TOKENS, self.running / RUNNING, self.waiting_s()
        )


class TTFTModels:
    """The fits of all endpoints. `coefficients` are ready for use in decisions."""

    def __init__(self, *, prior: Coefficients = PRIOR) -> None:
        self.prior = prior
        self.default = prior
        """Of an endpoint that is not in `coefficients`."""
        self.coefficients: dict[str, Coefficients] = {}
        self._fits: dict[str, Fit] = {}
        self.refresh_at = float("-inf")
        """When `refresh` has something to do again."""
        self._fleet = Fit(prior, FLEET_SPREAD)

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
        if not 0.0 < ttft_s < LONGEST_S:
            return
        fleet = self._fleet
        if num_waiting:
            # The rest is for the queue; at least a part is not, however long we think it is.
            ttft_s = max(ttft_s - fleet.waiting_s() * num_waiting, 0.1 * ttft_s)
        tokens = uncached_tokens + tokens_ahead
        fleet.observe(ttft_s, tokens, num_running)
        if fleet.num_observed <= FLEET_FIRST:
            self.default = fleet.coefficients()
            return
        fit = self._fits.get(endpoint_id)
        if fit is None:
            fit = self._fits[endpoint_id] = Fit(fleet.coefficients(), ENDPOINT_SPREAD)
        fit.observe(ttft_s, tokens, num_running)
        fit.observed_at = now
        self.coefficients[endpoint_id] = self._blend(fit, now)

    def finished(self, endpoint_id: str, duration_s: float) -> None:
        """A request ended `duration_s` after it was sent: how fast a queue there moves."""
        if 0.0 < duration_s < LONGEST_S:
            self._fleet.finished(duration_s)
            fit = self._fits.get(endpoint_id)
            if fit is not None:
                fit.finished(duration_s)

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
        """Work in the fleet's average and the age of what is known; free between `REFRESH_S`."""
        if now < self.refresh_at:
            return
        self.refresh_at = now + REFRESH_S
        self.default = self._fleet.coefficients()
        self.coefficients = {
            endpoint_id: self._blend(fit, now) for endpoint_id, fit in self._fits.items()
        }

    def _difference(self, fit: Fit) -> float:
        """How far an endpoint's own numbers are more than noise, in [0, 1].

        Equal workers never measure equal; whoever looks a little faster would be sent more, and
        lose what its cache held for others.
        """
        default = self.default
        ratio = (fit.base + fit.tokens) / (default.base_s + default.token_s * TOKENS)
        apart = abs(log(ratio))
        return min(1.0, max(0.0, (apart - SAME) / (OTHER - SAME)))

    def _blend(self, fit: Fit, now: float) -> Coefficients:
        """An endpoint's own numbers and the fleet's, by trust."""
        default = self.default
        trust = exp2((fit.observed_at - now) / HALF_LIFE_S) * self._difference(fit)
        rest = 1.0 - trust
        return Coefficients(
            trust * fit.base + rest * default.base_s,
            trust * fit.tokens / TOKENS + rest * default.token_s,
            trust * fit.running / RUNNING + rest * default.running_s,
            fit.waiting_s(),
        )
