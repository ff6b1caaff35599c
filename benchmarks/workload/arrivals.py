"""When sessions arrive in an open loop: a process (how regular) over a shape (how much, when)."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from typing import Literal

import msgspec

from shoal.errors import ConfigError

from .rate_shapes import parse_shape

Process = Literal["constant", "poisson", "gamma"]


class ArrivalSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An arrival process."""

    rate: float
    """Sessions per second (at the start, for shapes that change)."""
    process: Process = "poisson"
    burstiness: float = 1.0
    """Shape parameter of the gamma process, as in vLLM's benchmark: 1 is Poisson, less is burstier,
    more is more even. The coefficient of variation of the gaps is 1 / sqrt(burstiness)."""
    shape: str = "flat"

    def __post_init__(self) -> None:
        if not 0 < self.rate < math.inf:
            raise ConfigError(f"a rate of {self.rate:g} requests per second: it must be above 0")
        if not 0 < self.burstiness < math.inf:
            raise ConfigError(f"a burstiness of {self.burstiness:g}: it must be above 0")
        if self.burstiness != 1.0 and self.process != "gamma":
            raise ConfigError(f"burstiness belongs to gamma arrivals, not to {self.process}")
        parse_shape(self.shape, rate=self.rate, duration_s=1.0)


def start_times(spec: ArrivalSpec, *, duration_s: float, seed: int) -> Iterator[float]:
    """Rising times in [0, duration_s), in seconds; the same for the same seed.

    Constant arrivals begin at 0. The others begin after their first gap.
    """
    shape = parse_shape(spec.shape, rate=spec.rate, duration_s=duration_s)
    start_s = 0.0
    for count in _unit_rate(spec, random.Random(f"arrivals:{seed}")):
        # The inverse of a sine is exact to 1e-9 only, and two arrivals may be closer than that.
        start_s = max(start_s, shape.when(count))
        if not start_s < duration_s:
            return
        yield start_s


def _unit_rate(spec: ArrivalSpec, rng: random.Random) -> Iterator[float]:
    """Points of the process at one arrival per second, endless."""
    if spec.process == "constant":
        yield from map(float, itertools.count())
    count = 0.0
    while True:
        if spec.process == "gamma":
            count += rng.gammavariate(spec.burstiness, 1 / spec.burstiness)
        else:
            count += rng.expovariate(1.0)
        yield count
