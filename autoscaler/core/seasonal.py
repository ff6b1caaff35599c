"""Forecasts for loads that repeat: seasonal-naive and Holt-Winters.

Both cut a period into slots and know nothing before the first period is over. *Seasonal-naive*
expects what came one period ago. *Holt-Winters* (additive: Winters, "Forecasting sales by
exponentially weighted moving averages", Management Science 6, 1960) keeps what each slot has above
or below the rest, smoothed over periods, and a line through what is left. Memory: a number a slot.
"""

from __future__ import annotations

from math import ceil

from .smoothing import Trend

SLOT_S = 10.0
MIN_SLOTS, MAX_SLOTS = 12, 288
SEASON_WEIGHT = 0.4
"""Of the newest period in a slot's part."""


class _Slots:
    """Gathers counts by the slot of the period that they fall into.

    Invariant: one slot is open; the others are those of the last whole period.
    """

    def __init__(self, period_s: float) -> None:
        self.period_s = period_s
        self.number = min(max(ceil(period_s / SLOT_S), MIN_SLOTS), MAX_SLOTS)
        self.length_s = period_s / self.number
        self._open: int | None = None
        self._count = self._seconds = 0.0

    def add(self, now: float, interval_s: float, count: float) -> tuple[int, float, float] | None:
        """The slot that is complete with this, its rate and its seconds; else None."""
        index = self.index(now - interval_s / 2)
        closed = None
        if self._open is not None and index != self._open and self._seconds:
            closed = self._open, self._count / self._seconds, self._seconds
            self._count = self._seconds = 0.0
        self._open = index
        self._count += count
        self._seconds += interval_s
        return closed

    def index(self, time_s: float) -> int:
        return int(time_s % self.period_s / self.length_s) % self.number

    def between(self, values: list[float | None], time_s: float) -> float | None:
        """A value for a time, on the line between the middles of two slots; None if one lacks."""
        place = time_s % self.period_s / self.length_s - 0.5
        low = int(place // 1)
        share = place - low
        first, second = values[low % self.number], values[(low + 1) % self.number]
        if first is None or second is None:
            return None
        return first * (1 - share) + second * share


class SeasonalNaive:
    """What came one period ago comes again."""

    def __init__(self, period_s: float) -> None:
        self._slots = _Slots(period_s)
        self._rates: list[float | None] = [None] * self._slots.number
        self._unknown = self._slots.number
        self._now = 0.0

    def add(self, now: float, interval_s: float, count: float) -> None:
        self._now = now
        if (closed := self._slots.add(now, interval_s, count)) is not None:
            slot, rate, _ = closed
            self._unknown -= self._rates[slot] is None
            self._rates[slot] = rate

    def at(self, horizon_s: float) -> float | None:
        if self._unknown:
            return None
        return self._slots.between(self._rates, self._now + horizon_s)


class HoltWinters:
    """A line, and on top of it what each slot of the period has more or less than the rest."""

    def __init__(self, period_s: float) -> None:
        self._slots = _Slots(period_s)
        self._parts: list[float | None] = [None] * self._slots.number
        self._first: dict[int, float] = {}
        """Rates of the first period, which gives the first parts."""
        self._rest = Trend(period_s / 4)
        self._now = 0.0

    def add(self, now: float, interval_s: float, count: float) -> None:
        self._now = now
        if (part := self._parts[self._slots.index(now - interval_s / 2)]) is not None:
            self._rest.add_rate(interval_s, count / interval_s - part)
        if (closed := self._slots.add(now, interval_s, count)) is not None:
            self._close(*closed)

    def at(self, horizon_s: float) -> float | None:
        part = self._slots.between(self._parts, self._now + horizon_s)
        rest = self._rest.line(horizon_s)
        return None if part is None or rest is None else max(part + rest, 0.0)

    def _close(self, slot: int, rate: float, seconds: float) -> None:
        part = self._parts[slot]
        if part is None:
            self._first[slot] = rate
            if len(self._first) == self._slots.number:
                mean = sum(self._first.values()) / self._slots.number
                self._parts = [self._first[i] - mean for i in range(self._slots.number)]
                self._first = {}
                self._rest.add_rate(self._slots.period_s / 4, mean)
        elif (rest := self._rest.line(-seconds / 2)) is not None:
            self._parts[slot] = part + SEASON_WEIGHT * (rate - rest - part)
