"""Distributions of lengths in tokens, and of pauses in seconds, from a short text."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shoal.errors import ConfigError

from .traces.records import read_records

FORMS = (
    "a number (128), uniform:64-256, lognormal:mean=512,sigma=1.0[,min=1][,max=4096]"
    " or file:PATH:COLUMN"
)
PAUSE_FORMS = "seconds (2.5), exponential:MEAN or lognormal:mean=2,sigma=0.5[,min=0][,max=60]"


class Lengths(Protocol):
    """Draws whole numbers of at least 1."""

    def sample(self, rng: random.Random) -> int: ...

    @property
    def mean(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Fixed:
    value: int

    def sample(self, rng: random.Random) -> int:
        return self.value

    @property
    def mean(self) -> float:
        return self.value


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every whole number from `low` to `high`, both included."""

    low: int
    high: int

    def sample(self, rng: random.Random) -> int:
        return rng.randint(self.low, self.high)

    @property
    def mean(self) -> float:
        return (self.low + self.high) / 2


@dataclass(frozen=True, slots=True)
class Lognormal:
    """`arithmetic_mean` and `sigma` (of the logarithm) before values are cut to [low, high].

    mean = exp(mu + sigma^2 / 2): mean 512 and sigma 1 make a median of 311, a 95 % point of 1,609.
    """

    arithmetic_mean: float
    sigma: float
    low: float = 1
    high: float = math.inf

    def draw(self, rng: random.Random) -> float:
        mu = math.log(self.arithmetic_mean) - self.sigma**2 / 2
        return min(self.high, max(self.low, rng.lognormvariate(mu, self.sigma)))

    def sample(self, rng: random.Random) -> int:
        return round(self.draw(rng))

    @property
    def mean(self) -> float:
        return self.arithmetic_mean


@dataclass(frozen=True, slots=True)
class Empirical:
    """Lengths that were observed, each as likely as it was."""

    values: Sequence[int]

    def sample(self, rng: random.Random) -> int:
        return rng.choice(self.values)

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / len(self.values)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """A distribution known by some of its quantiles, linear between them.

    `points` are (share, value) with rising shares; below the first and above the last the
    distribution is cut off.
    """

    points: tuple[tuple[float, float], ...]

    def sample(self, rng: random.Random) -> int:
        share = rng.random()
        (low_share, low), *rest = self.points
        for high_share, high in rest:
            if share <= high_share:
                part = max(0.0, share - low_share) / (high_share - low_share)
                return max(1, round(low + part * (high - low)))
            low_share, low = high_share, high
        return max(1, round(low))

    @property
    def mean(self) -> float:
        (first_share, first), (last_share, last) = self.points[0], self.points[-1]
        total = first_share * first + (1 - last_share) * last
        for (a_share, a), (b_share, b) in zip(self.points, self.points[1:], strict=False):
            total += (b_share - a_share) * (a + b) / 2
        return total


def parse_lengths(text: str) -> Lengths:
    """A distribution of token counts. Raises ConfigError with the accepted forms."""
    kind, _, arguments = text.partition(":")
    try:
        if kind == "uniform":
            low, _, high = arguments.partition("-")
            lengths: Lengths = Uniform(int(low), int(high))
            valid = 1 <= int(low) <= int(high)
        elif kind == "lognormal":
            lognormal = _lognormal(arguments, low=1)
            lengths, valid = lognormal, lognormal.low >= 1
        elif kind == "file":
            path, _, column = arguments.rpartition(":")
            return Empirical(read_column(Path(path), column))
        else:
            lengths = Fixed(int(text))
            valid = int(text) >= 1
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        valid = False
    if not valid:
        raise ConfigError(f"{text!r} is not a length of at least 1; give {FORMS}")
    return lengths


class Pauses(Protocol):
    """Draws seconds."""

    def draw(self, rng: random.Random) -> float: ...


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float

    def draw(self, rng: random.Random) -> float:
        return self.seconds


@dataclass(frozen=True, slots=True)
class Exponential:
    mean_s: float

    def draw(self, rng: random.Random) -> float:
        return rng.expovariate(1 / self.mean_s)


def parse_pauses(text: str) -> Pauses:
    """A distribution of pauses in seconds. Raises ConfigError with the accepted forms."""
    kind, _, arguments = text.partition(":")
    try:
        if kind == "lognormal":
            return _lognormal(arguments, low=0)
        if kind == "exponential" and 0 < float(arguments) < math.inf:
            return Exponential(float(arguments))
        if not arguments and 0 <= float(text) < math.inf:
            return Pause(float(text))
    except ValueError:
        pass
    raise ConfigError(f"{text!r} is not a pause; give {PAUSE_FORMS}")


def read_column(path: Path, column: str) -> list[int]:
    """Whole numbers of at least 1 from a column of a CSV or JSONL file.

    Raises ConfigError naming the line for whatever does not fit.
    """
    values = []
    for record in read_records(path):
        value = record.count(column)
        if value < 1:
            raise record.wrong(column, "is below 1")
        values.append(value)
    if not values:
        raise ConfigError(f"{path} has no rows")
    return values


def _lognormal(arguments: str, *, low: float) -> Lognormal:
    """Raises ValueError for anything that does not fit the form."""
    given = dict(part.split("=", 1) for part in arguments.split(","))
    if not {"mean", "sigma"} <= given.keys() <= {"mean", "sigma", "min", "max"}:
        raise ValueError
    mean, sigma = float(given["mean"]), float(given["sigma"])
    minimum, maximum = float(given.get("min", low)), float(given.get("max", "inf"))
    if not (0 < mean < math.inf and 0 <= sigma < 20 and low <= minimum <= maximum):
        raise ValueError
    return Lognormal(mean, sigma, minimum, maximum)
