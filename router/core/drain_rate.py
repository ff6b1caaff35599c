"""How fast a queue empties: the base of every Retry-After."""

from __future__ import annotations

from math import exp, expm1

TAU_S = 10.0
"""Memory: a change of the rate is two thirds believed after so long."""
MIN_RETRY_S = 1.0
MAX_RETRY_S = 60.0
UNKNOWN_RETRY_S = 5.0
"""While nothing has left the queue yet."""


class DrainRate:
    """Exponentially weighted rate of departures, unbiased from the first one on."""

    __slots__ = ("_since", "_updated_at", "_weight")

    def __init__(self) -> None:
        self._weight = 0.0
        self._since: float | None = None
        self._updated_at = 0.0

    def on_departure(self, now: float) -> None:
        if self._since is None:
            self._since = self._updated_at = now
            return  # the first begins the measure: n departures later n gaps have passed
        self._weight = self._weight * exp((self._updated_at - now) / TAU_S) + 1.0
        self._updated_at = now

    def per_s(self, now: float) -> float:
        """Departures a second; 0: not known."""
        if self._since is None or now <= self._since:
            return 0.0
        weight = self._weight * exp((self._updated_at - now) / TAU_S)
        return weight / (TAU_S * -expm1((self._since - now) / TAU_S))

    def retry_after_s(self, num_waiting: int, now: float) -> float:
        """When those who wait now should be gone, between 1 and 60 s.

        120 wait and 8 leave a second: 15 s.
        """
        rate = self.per_s(now)
        if rate <= 0:
            return UNKNOWN_RETRY_S
        return min(MAX_RETRY_S, max(MIN_RETRY_S, num_waiting / rate))
