"""How many second attempts a process may make: retries and hedges as a share of its requests.

A fleet that is short of capacity fails requests; if each were sent again, the load would double
at the worst moment. A budget in proportion to the traffic (as in Finagle and gRPC's retry
throttling) keeps the extra load bounded.
"""

from __future__ import annotations

from typing import Final

from .window_count import WindowCount

WINDOW_S: Final = 10.0


class RetryBudget:
    """At most `ratio` retries a request over the last 10 s, beyond the first `min_retries`.

    The first ones are free so that a quiet process can retry at all.
    """

    __slots__ = ("_min_retries", "_ratio", "_requests", "_retries")

    def __init__(self, ratio: float, min_retries: int) -> None:
        if ratio < 0 or min_retries < 0:
            raise ValueError(
                f"ratio and min_retries must be 0 or more, got {ratio} and {min_retries}"
            )
        self._ratio = ratio
        self._min_retries = min_retries
        self._requests = WindowCount(WINDOW_S)
        self._retries = WindowCount(WINDOW_S)

    def on_request(self, now: float) -> None:
        """Every request once, at its first attempt."""
        self._requests.add(now)

    def try_retry(self, now: float) -> bool:
        """Take one retry out of the budget; False: there is none, answer with the failure."""
        allowed = self._min_retries + self._ratio * self._requests.count(now)
        if self._retries.count(now) + 1 > allowed:
            return False
        self._retries.add(now)
        return True


class HedgeBudget:
    """At most `max_ratio` hedges a request over the last 10 s; none is free."""

    __slots__ = ("_hedges", "_max_ratio", "_requests")

    def __init__(self, max_ratio: float) -> None:
        if not 0 <= max_ratio <= 1:
            raise ValueError(f"max_ratio must be between 0 and 1, got {max_ratio}")
        self._max_ratio = max_ratio
        self._requests = WindowCount(WINDOW_S)
        self._hedges = WindowCount(WINDOW_S)

    def on_request(self, now: float) -> None:
        """Every request once, at its first attempt."""
        self._requests.add(now)

    def try_hedge(self, now: float) -> bool:
        """Take one hedge out of the budget; False: keep waiting for the first attempt."""
        if self._hedges.count(now) + 1 > self._max_ratio * self._requests.count(now):
            return False
        self._hedges.add(now)
        return True


def backoff_s(
    retry: int, rand: float, *, base_s: float = 0.01, max_backoff_s: float = 0.25
) -> float:
    """How long to wait before the `retry`-th retry (1 is the first), with full jitter.

    The first goes out at once: it goes to another worker. Then a random part (`rand` in [0, 1))
    of `base_s`, twice that, four times, up to `max_backoff_s`: "full jitter" of M. Brooker,
    "Exponential Backoff and Jitter" (AWS, 2015), which spreads a crowd of retries best.
    """
    if retry <= 1:
        return 0.0
    exponent = min(retry - 2, 32)  # 2 ** 32 times any base is past every bound
    return rand * min(max_backoff_s, base_s * 2.0**exponent)
