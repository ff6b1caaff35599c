"""Time as a value: shells own a clock, cores are handed `now`."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Gives the current time point in seconds; only differences have a meaning."""

    def now(self) -> float: ...


class MonotonicClock:
    """CLOCK_MONOTONIC: on Linux one time line for all processes of a machine."""

    def now(self) -> float:
        return time.monotonic()


class VirtualClock:
    """A clock that stands still until it is told to move; for tests and simulation."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move forward. Raises ValueError when `seconds` is negative."""
        if seconds < 0:
            raise ValueError(f"time does not go backwards: advance({seconds})")
        self._now += seconds
