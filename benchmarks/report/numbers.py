"""Numbers as people read them: three significant digits and a unit that fits.

A value that is missing is a dash. Trailing zeros stay (`1.20 s`): they say how exact the figure is
and keep columns aligned. From 1000 on every whole digit is shown, with commas.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TypeGuard

MISSING = "–"
DIGITS = 3


class Quantity(Enum):
    """What a number measures, which decides the units it may be shown in."""

    SECONDS = "seconds"
    BYTES = "bytes"
    SHARE = "share"
    """A part of one, shown in percent."""
    NUMBER = "number"
    """Counts and rates; what is counted goes into the label."""


@dataclass(frozen=True, slots=True)
class Unit:
    """`size` base units are one of these."""

    symbol: str
    size: float

    def number(self, value: float | None) -> str:
        """The value in this unit, without the symbol: for columns that name their unit once."""
        return significant(value / self.size) if is_known(value) else MISSING

    def text(self, value: float | None) -> str:
        """The value with its symbol."""
        if not is_known(value):
            return MISSING
        gap = "" if self.symbol in ("", "%") else " "
        return f"{self.number(value)}{gap}{self.symbol}"


UNITS: dict[Quantity, tuple[Unit, ...]] = {
    Quantity.SECONDS: (Unit("µs", 1e-6), Unit("ms", 1e-3), Unit("s", 1.0)),
    Quantity.BYTES: (
        Unit("B", 1.0),
        Unit("KiB", 2.0**10),
        Unit("MiB", 2.0**20),
        Unit("GiB", 2.0**30),
        Unit("TiB", 2.0**40),
    ),
    Quantity.SHARE: (Unit("%", 0.01),),
    Quantity.NUMBER: (Unit("", 1.0),),
}


def unit_for(quantity: Quantity, values: Iterable[float | None]) -> Unit:
    """One unit for values that stand side by side: the one that suits their median."""
    sizes = sorted(abs(value) for value in values if is_known(value) and value != 0)
    units = UNITS[quantity]
    if not sizes:
        return units[-1] if quantity is Quantity.SECONDS else units[0]
    middle = sizes[len(sizes) // 2]
    # 0.9996 of a unit would be written 1000 of the one below.
    fitting = [unit for unit in units if middle >= unit.size * 0.9995]
    return fitting[-1] if fitting else units[0]


def significant(value: float) -> str:
    """Three significant digits in plain notation: 0.0123, 1.20, 12.0, 120, 1,203."""
    if value == 0:
        return "0"
    exponent = int(f"{value:.{DIGITS - 1}e}".partition("e")[2])  # after rounding: 9.996 is 10.0
    if exponent < -6:
        return f"{value:.{DIGITS - 1}e}"
    return f"{value:,.{max(0, DIGITS - 1 - exponent)}f}"


def seconds(value: float | None) -> str:
    """A latency: `850 µs`, `12.3 ms`, `1.20 s`."""
    return unit_for(Quantity.SECONDS, [value]).text(value)


def duration(value: float | None) -> str:
    """A length of time people wait through: `45.0 s`, `12 min 05 s`, `2 h 03 min`."""
    if is_known(value) and value >= 119.5:
        minutes, rest = divmod(round(value), 60)
        if minutes < 120:
            return f"{minutes} min {rest:02d} s"
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return seconds(value)


def number(value: float | None) -> str:
    """A rate or another plain number."""
    return significant(value) if is_known(value) else MISSING


def rate(value: float | None, of: str) -> str:
    """`rate(12.0, "req")` is `12.0 req/s`."""
    return f"{significant(value)} {of}/s" if is_known(value) else MISSING


def count(value: int | None) -> str:
    """A whole number, exact, with commas."""
    return MISSING if value is None else f"{value:,d}"


def size(value: float | None) -> str:
    """Bytes: `512 B`, `1.50 GiB`."""
    return unit_for(Quantity.BYTES, [value]).text(value)


def ratio(value: float | None) -> str:
    """`1.32×`."""
    return f"{significant(value)}×" if is_known(value) else MISSING


def share(value: float | None) -> str:
    """A part of one in percent. What is not all is never written 100 %: 0.99996 is `99.996%`."""
    if not is_known(value):
        return MISSING
    for decimals in (1, 2, 3):
        text = f"{value * 100:.{decimals}f}"
        if float(text) != 100 or value >= 1:
            return f"{text.removesuffix('.0')}%"
    return "99.999%"


def text(value: float | None, quantity: Quantity) -> str:
    """A lone value of any quantity, with its unit."""
    if quantity is Quantity.SHARE:
        return share(value)
    return unit_for(quantity, [value]).text(value)


def is_known(value: float | None) -> TypeGuard[float]:
    """Whether there is a finite number."""
    return value is not None and math.isfinite(value)


def known(values: Iterable[float | None]) -> list[float]:
    """The finite numbers among `values`."""
    return [value for value in values if is_known(value)]
