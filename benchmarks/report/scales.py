"""Axes: where a value lies between two ends, and the round numbers worth a label.

Linear ticks are the multiples of 1, 2, 2.5 or 5 times a power of ten (P. Heckbert, "Nice Numbers
for Graph Labels", Graphics Gems, 1990); logarithmic ones are decades, with 2 and 5 between where
they fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from . import numbers
from .numbers import UNITS, Quantity

STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
LOG_MANTISSAS = ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 4, 5, 6, 7, 8, 9))
SI = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps [low, high] to [0, 1]; `low < high`, and both above zero when logarithmic."""

    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]

    def __call__(self, value: float) -> float:
        """Position of a value, clamped to the ends."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear(low: float, high: float, *, num_ticks: int, base: float = 10.0) -> Scale:
    """Ends widened to round numbers. `base` 2 makes them round in binary, for bytes."""
    if high <= low:
        low, high = (0.0, low) if low > 0 else (low, low + 1.0)
    step = _step((high - low) / num_ticks, base)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Scale(
        first * step, last * step, False, tuple(index * step for index in range(first, last + 1))
    )


def exact(low: float, high: float, *, num_ticks: int) -> Scale:
    """Ends as given, for time and percent; round ticks inside."""
    if high <= low:
        high = low + 1.0
    inside = [t for t in linear(low, high, num_ticks=num_ticks).ticks
              if low - 1e-9 * abs(low) <= t <= high * (1 + 1e-9)]  # fmt: skip
    return Scale(low, high, False, tuple(inside))


def logarithmic(low: float, high: float, *, num_ticks: int) -> Scale:
    """Ends as given, a little widened; values must be above zero."""
    low, high = low / 1.05, max(high, low) * 1.05
    ticks: list[float] = []
    for mantissas in LOG_MANTISSAS:
        finer = _log_ticks(low, high, mantissas)
        if len(finer) > num_ticks:
            break
        ticks = finer
    if len(ticks) < 3:  # less than a decade: round numbers of a linear axis fall well enough
        ticks = [
            tick for tick in linear(low, high, num_ticks=num_ticks).ticks if low <= tick <= high
        ]
    return Scale(low, high, True, tuple(ticks))


def labels(scale: Scale, quantity: Quantity) -> tuple[list[str], str]:
    """A label for every tick, and the unit they share ('' when each label has its own)."""
    units = UNITS[quantity]
    if scale.log:
        return [_lone(tick, quantity) for tick in scale.ticks], "%" if len(units) == 1 and units[
            0
        ].symbol else ""
    largest = max(map(abs, scale.ticks), default=1.0)
    fitting = [unit for unit in units if largest >= unit.size * 0.9995]
    unit = fitting[-1] if fitting else units[0]
    scaled = [tick / unit.size for tick in scale.ticks]
    if quantity is Quantity.NUMBER and largest >= 10_000:
        return [_si(tick) for tick in scaled], ""
    steps = [b - a for a, b in pairwise(scaled)]
    decimals = _decimals(min(steps, default=1.0))
    return [f"{tick:,.{decimals}f}" for tick in scaled], unit.symbol


def _lone(tick: float, quantity: Quantity) -> str:
    if quantity is Quantity.NUMBER:
        return _si(tick)
    unit = numbers.unit_for(quantity, [tick])
    gap = "" if unit.symbol == "%" else " "
    return f"{tick / unit.size:g}" + ("" if unit.symbol == "%" else f"{gap}{unit.symbol}")


def _si(value: float) -> str:
    for size, prefix in SI:
        if abs(value) >= size * 0.9999:
            return f"{value / size:.4g}{prefix}"
    return f"{value:.4g}"


def _step(rough: float, base: float) -> float:
    if base == 2:
        return float(2.0 ** math.ceil(math.log2(rough)))
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in STEPS if step * power >= rough * (1 - 1e-9))


def _log_ticks(low: float, high: float, mantissas: tuple[int, ...]) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    candidates = (mantissa * 10.0**decade for decade in decades for mantissa in mantissas)
    return [tick for tick in candidates if low <= tick <= high]


def _decimals(step: float) -> int:
    """Digits after the point that tell neighbouring ticks apart: 2.5 needs one, 0.05 two."""
    for decimals in range(10):
        if abs(round(step, decimals) - step) < 1e-9 * step:
            return decimals
    return 10
