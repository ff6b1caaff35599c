"""Exponential smoothing: forecasts of a rate from its own past, each with one time constant.

`Level` expects what is. `Trend` is Holt's linear method with the two weights tied as Brown ties
them ("Smoothing, Forecasting and Prediction of Discrete Time Series", 1963): the line that fits
the past best, each second counting less than the next. Weights come from the length of an interval,
so intervals may differ.
"""

from __future__ import annotations

from math import exp
from typing import Protocol


class Forecaster(Protocol):
    """Learns from counts; expects rates."""

    def add(self, now: float, interval_s: float, count: float) -> None:
        """What came in the `interval_s` before `now`."""

    def at(self, horizon_s: float) -> float | None:
        """Requests per second in so many seconds; None while too little is known."""


class Level:
    """The smoothed rate, for all times to come."""

    def __init__(self, time_constant_s: float) -> None:
        self._time_constant_s = time_constant_s
        self._seconds = 0.0
        self._rate: float | None = None

    def add(self, now: float, interval_s: float, count: float) -> None:
        self._seconds += interval_s
        weight = _weight(interval_s, self._seconds, self._time_constant_s)
        rate = count / interval_s
        self._rate = rate if self._rate is None else self._rate + weight * (rate - self._rate)

    def at(self, horizon_s: float) -> float | None:
        return self._rate


class Trend:
    """A line through the smoothed past; flat until the past is twice the time constant long."""

    def __init__(self, time_constant_s: float) -> None:
        self._time_constant_s = time_constant_s
        self._seconds = 0.0
        self._once: float | None = None
        self._twice = 0.0
        """Smoothed, and smoothed once more: the second lags the first as far as that lags behind
        the rate."""

    def add(self, now: float, interval_s: float, count: float) -> None:
        self.add_rate(interval_s, count / interval_s)

    def add_rate(self, interval_s: float, rate: float) -> None:
        """A rate, which may be negative: what is left of one without its season."""
        self._seconds += interval_s
        if self._once is None:
            self._once = self._twice = rate
            return
        weight = _weight(interval_s, self._seconds, self._time_constant_s)
        self._once += weight * (rate - self._once)
        self._twice += weight * (self._once - self._twice)

    def at(self, horizon_s: float) -> float | None:
        line = self.line(horizon_s)
        return None if line is None else max(line, 0.0)

    def line(self, horizon_s: float) -> float | None:
        """As `at`, below 0 too."""
        if self._once is None:
            return None
        if self._seconds < 2 * self._time_constant_s:
            return self._once
        lag = self._once - self._twice
        return self._once + lag + lag / self._time_constant_s * horizon_s


def _weight(interval_s: float, seconds: float, time_constant_s: float) -> float:
    """Of the newest interval; while the past is short, all of it counts the same."""
    return max(1 - exp(-interval_s / time_constant_s), interval_s / seconds)
