"""Load as a function of time: how many arrivals are expected until t, and the way back.

A shape is given by its cumulative rate, so any arrival process of rate one becomes one of this
shape by sending its points through the inverse (time rescaling; Çinlar, *Introduction to
Stochastic Processes*, 1975).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from shoal.errors import ConfigError

FORMS = "flat, ramp:TO_RATE, sine:AMPLITUDE,PERIOD_S (amplitude 0 to 1) or steps:RATE@T,RATE@T,..."


class RateShape(Protocol):
    """A rate in arrivals per second that changes with time."""

    def when(self, count: float) -> float:
        """Seconds until `count` arrivals are expected; infinite when they never are."""


@dataclass(frozen=True, slots=True)
class Flat:
    rate: float

    def when(self, count: float) -> float:
        return count / self.rate


@dataclass(frozen=True, slots=True)
class Ramp:
    """Linear from `rate` at 0 to `to_rate` at `duration_s`.

    count = rate t + slope t^2 / 2, solved for t in the form that stays exact for a slope near 0.
    """

    rate: float
    to_rate: float
    duration_s: float

    def when(self, count: float) -> float:
        slope = (self.to_rate - self.rate) / self.duration_s
        root = self.rate**2 + 2 * slope * count
        if root < 0:
            return math.inf  # a falling ramp reaches zero before
        bottom = self.rate + math.sqrt(root)
        return 2 * count / bottom if bottom > 0 else math.inf


@dataclass(frozen=True, slots=True)
class Sine:
    """rate (1 + amplitude sin(2 pi t / period)); the mean over whole periods is `rate`."""

    rate: float
    amplitude: float
    period_s: float

    def cumulative(self, t: float) -> float:
        turn = 2 * math.pi / self.period_s
        return self.rate * (t + self.amplitude / turn * (1 - math.cos(turn * t)))

    def when(self, count: float) -> float:
        """By bisection: the cumulative rate never falls, and stays within a period's swing of its
        mean line."""
        high = count / self.rate
        low = max(0.0, high - self.amplitude * self.period_s / math.pi)
        while high - low > 1e-9 * max(1.0, high):
            middle = (low + high) / 2
            if self.cumulative(middle) < count:
                low = middle
            else:
                high = middle
        return (low + high) / 2


@dataclass(frozen=True, slots=True)
class Steps:
    """`rates[i]` holds from `times[i]` seconds on; `times[0]` is 0."""

    rates: tuple[float, ...]
    times: tuple[float, ...]

    def when(self, count: float) -> float:
        ends = (*self.times[1:], math.inf)
        for rate, start, end in zip(self.rates, self.times, ends, strict=True):
            expected = rate * (end - start) if rate > 0 else 0.0
            if rate > 0 and count <= expected:
                return start + count / rate
            count -= expected
        return math.inf


def parse_shape(text: str, *, rate: float, duration_s: float) -> RateShape:
    """A shape that begins at `rate`. Raises ConfigError with the accepted forms."""
    kind, _, arguments = text.partition(":")
    try:
        if text == "flat":
            return Flat(rate)
        if kind == "ramp" and 0 <= float(arguments) < math.inf:
            if not duration_s < math.inf:
                raise ConfigError("a ramp needs a duration: it ends at its second rate")
            return Ramp(rate, float(arguments), duration_s)
        if kind == "sine":
            amplitude, period_s = map(float, arguments.split(","))
            if 0 <= amplitude <= 1 and 0 < period_s < math.inf:
                return Sine(rate, amplitude, period_s)
        if kind == "steps":
            steps = [tuple(map(float, step.split("@"))) for step in arguments.split(",")]
            times = (0.0, *(t for _, t in steps))
            rates = (rate, *(r for r, _ in steps))
            rising = all(a < b for a, b in pairwise(times))
            if rising and times[-1] < math.inf and all(0 <= r < math.inf for r in rates):
                return Steps(rates, times)
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
    raise ConfigError(f"{text!r} is not a shape; give {FORMS}")
