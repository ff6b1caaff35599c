"""Counters of one source as what they grew by: across restarts and outages of it. Pure.

A counter that went back, or another start time, is another process: what it has counted since its
start is the growth, and nothing is ever negative or the total of a lifetime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Growth:
    """What counters grew by over some seconds."""

    amounts: Mapping[str, float]
    seconds: float

    def of(self, name: str) -> float:
        return self.amounts.get(name, 0.0)

    def per_s(self, name: str) -> float:
        return self.of(name) / self.seconds


class Counters:
    """Of one source. What it said first tells nothing yet: it may have counted for days."""

    def __init__(self) -> None:
        self._last: Mapping[str, float] | None = None
        self._started: float | None = None
        self.read_at = 0.0
        """When it last answered."""

    def grow(
        self, now: float, counts: Mapping[str, float], *, started: float | None = None
    ) -> Growth | None:
        """Take a reading; None: it is the first. `started`: when the process did, if it tells."""
        last, seconds = self._last, now - self.read_at
        is_another = started is not None and self._started not in (None, started)
        if last is not None and seconds <= 0:
            return None  # nothing can have grown: the reading before stays
        self._last, self._started, self.read_at = dict(counts), started, now
        if last is None:
            return None
        if is_another or any(counts.get(name, 0.0) < value for name, value in last.items()):
            return Growth(dict(counts), seconds)
        return Growth({n: value - last.get(n, 0.0) for n, value in counts.items()}, seconds)
