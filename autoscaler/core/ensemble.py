"""Several forecasters, each trusted as far as its forecasts of late have come true.

Forecasts are kept until their time comes. The loss of a forecaster is the sum of its squared
errors, in units of what chance alone makes, with forgetting; its weight falls exponentially with
its loss, as in prediction with expert advice (Cesa-Bianchi and Lugosi, 2006). One that does worse
than the plain forecast is off.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from math import exp

from .smoothing import Forecaster

MEMORY_S = 1200.0
"""Errors fade by a factor e in so long."""
MEASURED_S = 20.0
"""What came is measured over so long, to be held against its forecast."""

LEAST_WEIGHT = 1e-4
"""Below it nothing changes."""
TO_EARN = 1.0
"""Loss that a forecaster must make up for before it is trusted."""


class Ensemble:
    """`plain` is the name of the one to beat, which must be among the first members."""

    def __init__(self, members: Mapping[str, Forecaster], *, plain: str) -> None:
        self._members = dict(members)
        self._plain = plain
        self._loss = {name: 0.0 if name == plain else TO_EARN for name in members}
        self._open: deque[tuple[float, dict[str, float]]] = deque()
        """(when, expected by name), for times to come."""
        self._recent: deque[tuple[float, float, float]] = deque()
        """(end, seconds, count) of the last `MEASURED_S`."""

    def join(self, name: str, member: Forecaster) -> None:
        """One more, or another in its place; has to earn its weight."""
        self._members[name] = member
        self._loss[name] = self._loss[self._plain] + TO_EARN

    def add(self, now: float, interval_s: float, count: float, *, horizon_s: float) -> None:
        """`horizon_s`: how far ahead forecasts matter, and so are judged."""
        for member in self._members.values():
            member.add(now, interval_s, count)
        self._recent.append((now, interval_s, count))
        while self._recent[0][0] <= now - MEASURED_S:
            self._recent.popleft()
        self._judge(now, interval_s, horizon_s)
        # Errors are of means over `MEASURED_S`: compared with the forecast for their middle.
        ahead = max(horizon_s - MEASURED_S / 2, 0.0)
        forecasts = {name: m.at(ahead) for name, m in self._members.items()}
        known = {name: rate for name, rate in forecasts.items() if rate is not None}
        self._open.append((now + horizon_s, known))

    def _judge(self, now: float, interval_s: float, horizon_s: float) -> None:
        seconds = sum(s for _, s, _ in self._recent)
        came = sum(count for _, _, count in self._recent) / seconds
        variance = max(came, 0.5) / seconds
        kept = exp(-interval_s / MEMORY_S)
        # Forecasts of one interval after the other err together: a horizon's worth counts as one.
        share = min(interval_s / max(horizon_s, interval_s), 1.0)
        for name in self._loss:
            self._loss[name] *= kept
        while self._open and self._open[0][0] <= now:
            _, forecasts = self._open.popleft()
            for name in self._loss:
                # Who had no forecast is taken for as good as the plain one.
                rate = forecasts.get(name, forecasts[self._plain])
                self._loss[name] += share * (came - rate) ** 2 / variance

    @property
    def plain(self) -> Forecaster:
        return self._members[self._plain]

    def weights(self) -> dict[str, float]:
        """Of those that have a forecast; together 1."""
        most = self._loss[self._plain]
        on = [
            name for name, member in self._members.items()
            if self._loss[name] <= most and member.at(0.0) is not None
        ]  # fmt: skip
        least = min((self._loss[name] for name in on), default=0.0)
        raw = {name: exp((least - self._loss[name]) / 2) for name in on}
        total = sum(raw.values())
        return {name: weight / total for name, weight in raw.items()}

    def at(self, horizon_s: float) -> float:
        """The mean of those that are trusted; 0 before anything came."""
        return sum(
            weight * (self._members[name].at(horizon_s) or 0.0)
            for name, weight in self.weights().items()
            if weight >= LEAST_WEIGHT
        )
