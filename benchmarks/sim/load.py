"""Requests for a simulation: from a trace's rows, or drawn from a rate that changes with time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import exp, log, pi, sin
from random import Random

from shoal.benchmarks.workload.traces.row import TraceRow

from .request import SimRequest

RateAt = Callable[[float], float]
"""Requests per second at a time in seconds."""
CLIENT_CHANGES_S = 600.0


def of_rows(rows: Iterable[TraceRow], *, time_scale: float = 1.0, copies: int = 1,
            seed: int = 0) -> list[SimRequest]:  # fmt: skip
    """The requests of a trace. `copies` makes a busier service of the same kind: each request comes
    so often, the copies at random within 30 s around it."""
    rng = Random(seed)
    requests = []
    for row in rows:
        for copy in range(copies):
            at = row.start_s / time_scale + (rng.uniform(-30, 30) if copy else 0.0)
            if at >= 0:
                lengths = max(row.num_input_tokens, 1), max(row.num_output_tokens, 1)
                requests.append(SimRequest(at, *lengths))
    requests.sort(key=lambda request: request.arrival_s)
    return requests


def stationary(like: list[SimRequest], rate: float, *, duration_s: float, seed: int = 0
               ) -> list[SimRequest]:  # fmt: skip
    """Requests of the same lengths at a constant rate: a Poisson process."""
    rng = Random(seed)
    requests, now = [], 0.0
    while (now := now + rng.expovariate(rate)) < duration_s:
        model = like[rng.randrange(len(like))]
        requests.append(SimRequest(now, model.num_input_tokens, model.num_output_tokens))
    return requests


def poisson(
    rate_at: RateAt, *, duration_s: float, max_rate: float, seed: int = 0,
    mean_input: float = 1000.0, mean_output: float = 200.0,
) -> list[SimRequest]:  # fmt: skip
    """A Poisson process by thinning (Lewis and Shedler, 1979), lengths log-normal."""
    rng = Random(seed)
    requests, now = [], 0.0
    while (now := now + rng.expovariate(max_rate)) < duration_s:
        if rng.random() * max_rate < rate_at(now):
            requests.append(
                SimRequest(now, _length(rng, mean_input, 0.8), _length(rng, mean_output, 0.7))
            )
    return requests


def _length(rng: Random, mean: float, sigma: float) -> int:
    value = exp(rng.gauss(log(mean) - sigma * sigma / 2, sigma))
    return int(min(max(value, 1.0), 10 * mean))


def sine(mean: float, amplitude: float, period_s: float) -> RateAt:
    return lambda t: mean * (1 + amplitude * sin(2 * pi * t / period_s))


def steps(levels: list[tuple[float, float]]) -> RateAt:
    """(from this second on, rate), in order."""

    def rate_at(t: float) -> float:
        return next(rate for since, rate in reversed(levels) if t >= since)

    return rate_at


def flash_crowd(base: float, peak: float, *, at_s: float, rise_s: float, decay_s: float) -> RateAt:
    """From `base` to `peak` within `rise_s`, then back with a half-life of `decay_s`."""

    def rate_at(t: float) -> float:
        if t < at_s:
            return base
        if t < at_s + rise_s:
            return base + (peak - base) * (t - at_s) / rise_s
        half_lives = (t - at_s - rise_s) / decay_s
        return base + (peak - base) * exp(-log(2) * half_lives)

    return rate_at


def bursts(base: float, peak: float, *, every_s: float, lasts_s: float) -> RateAt:
    """A peak by the clock, such as a batch job's."""
    return lambda t: peak if t % every_s < lasts_s else base


def clients(
    rate: float, *, number: int, duration_s: float, seed: int = 0, mean_input: float = 1000.0,
    mean_output: float = 200.0,
) -> list[SimRequest]:  # fmt: skip
    """A service as the sum of clients, as Xiang et al. found it ("ServeGen", arXiv 2505.09999): few
    of them make most of the load, each sends in bursts of its own (gaps of a Gamma distribution,
    one to two and a half times as irregular as a Poisson process), has lengths of its own, and
    changes its rate every ten minutes."""
    rng = Random(seed)
    shares = [1 / (place + 1) for place in range(number)]  # Zipf's law
    requests = []
    for share in shares:
        mean = rate * share / sum(shares)
        variation = rng.uniform(1.0, 2.5)
        shape = 1 / variation**2
        lengths = mean_input * rng.uniform(0.5, 1.5), mean_output * rng.uniform(0.5, 1.5)
        now, until, present = rng.uniform(0, 1 / mean), 0.0, mean
        while now < duration_s:
            if now >= until:
                until = now + CLIENT_CHANGES_S
                present = mean * exp(rng.gauss(0, 0.3) - 0.045)
            requests.append(
                SimRequest(now, _length(rng, lengths[0], 0.8), _length(rng, lengths[1], 0.7))
            )
            now += rng.gammavariate(shape, 1 / (shape * present))
    requests.sort(key=lambda request: request.arrival_s)
    return requests
