"""What comes in, and what will: everything that is known of the arrivals of one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .arrivals import Arrivals
from .ensemble import Ensemble
from .forecast import ForecastErrors
from .period import BUCKET_S, PeriodFinder
from .seasonal import HoltWinters, SeasonalNaive
from .smoothing import Forecaster, Level, Trend
from .surge import MOST_GROWTH, Surge

LEVELS_S = (20.0, 60.0, 180.0, 600.0)
TRENDS_S = (20.0, 40.0, 80.0, 160.0)
"""Time constants of the forecasts that are tried."""
SEARCH_EVERY_S = 120.0
SAME_PERIOD = 0.03
"""Relative difference of two periods that are one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """Requests per second, in so many seconds."""

    now: float
    expected: float
    surge: float
    """What a surge that is under way grows to; 0 without one."""
    spread: float
    """How wrong forecasts are, in units of chance; 1 at the least."""


class Demand:
    """`share`: of forecasts whose error is provided for; `periods_s`: at which loads may repeat,
    besides the one that is found."""

    def __init__(self, *, share: float, periods_s: Sequence[float] = ()) -> None:
        members: dict[str, Forecaster] = {"plain": Arrivals()}
        members |= {f"level_{s:g}s": Level(s) for s in LEVELS_S}
        members |= {f"trend_{s:g}s": Trend(s) for s in TRENDS_S}
        for period_s in periods_s:
            members |= _seasonal(period_s, f"{period_s:g}s")
        self._given_s = tuple(periods_s)
        self._forecasts = Ensemble(members, plain="plain")
        self._errors = ForecastErrors(share)
        self._surge = Surge()
        self._periods = PeriodFinder()
        self._period_s: float | None = None
        self._searched = 0.0
        self._now: float | None = None

    def add(self, now: float, interval_s: float, count: float, *, horizon_s: float) -> None:
        """What came in the `interval_s` before `now`; `horizon_s` ahead forecasts are needed."""
        if self._now is not None:
            self._surge.add(
                now, interval_s, count, expected=self._forecasts.at(interval_s / 2),
                spread=self._errors.spread,
            )  # fmt: skip
        self._now = now
        self._forecasts.add(now, interval_s, count, horizon_s=horizon_s)
        self._errors.came(now, interval_s, count)
        self._errors.expect(now + horizon_s, self._forecasts.at(horizon_s))
        self._periods.add(interval_s, count)
        if now - self._searched >= SEARCH_EVERY_S:
            self._searched = now
            self._look_for_period(now)

    def outlook(self, horizon_s: float) -> Outlook:
        now, surge = self._forecasts.at(0.0), 0.0
        if self._now is not None and self._surge.is_on(self._now):
            plain = self._forecasts.plain
            present, ahead = plain.at(0.0) or 0.0, plain.at(horizon_s) or 0.0
            surge = max(present, min(ahead, present * MOST_GROWTH))
            now = max(now, present)
        return Outlook(
            now=now, expected=self._forecasts.at(horizon_s), surge=surge,
            spread=self._errors.spread,
        )  # fmt: skip

    def weights(self) -> dict[str, float]:
        """Of the forecasts that are trusted."""
        return self._forecasts.weights()

    def _look_for_period(self, now: float) -> None:
        """One that is new gets forecasts of its own, taught with what is remembered."""
        found = self._periods.period_s()
        if found is None or any(_is_same(found, known) for known in self._given_s):
            return
        if self._period_s is not None and _is_same(found, self._period_s):
            return
        self._period_s = found
        for name, member in _seasonal(found, "found").items():
            rates = self._periods.rates
            for index, rate in enumerate(rates):
                at = now - (len(rates) - 1 - index) * BUCKET_S
                member.add(at, BUCKET_S, rate * BUCKET_S)
            self._forecasts.join(name, member)


def _seasonal(period_s: float, label: str) -> dict[str, Forecaster]:
    return {
        f"seasonal_naive_{label}": SeasonalNaive(period_s),
        f"holt_winters_{label}": HoltWinters(period_s),
    }


def _is_same(one: float, other: float) -> bool:
    return abs(one - other) <= SAME_PERIOD * other
