"""How many requests each worker takes at once, learnt from how long first tokens take.

A worker runs so many requests, and lets more wait inside it, where the router can no longer
choose another. The limit finds the border: as in Netflix's concurrency-limits (gradient and
AIMD), the measured latency is set against the lowest for such work, and the limit shrinks in
proportion when it is clearly above, and grows a little when it was reached and latency was good.

What is different for LLM workers:

- The signal is time to first token against that of prompts of like length (powers of two of
  uncached tokens), because a long prompt is slow on an idle worker too. What to expect is learnt
  from the calmest requests, those that met the fewest others (`calmest.py`), not from the fastest:
  a prompt that was cached though we thought it was not is very fast, and says nothing.
- Batches slow each other down without any queue, so up to `TOLERANCE` times what is expected, or
  0.1 s more, is healthy; the median of a window decides, not one request.
- One slow window is not enough: a machine that stops for half a second, the router's own among
  them, makes every worker look late, and whatever is limited then waits for whole answers to end.
- A worker whose /metrics say that nobody waits is never throttled, whatever its latency.
- Shrinking starts from what was in flight, growing needs the limit to be reached: an endpoint
  without queueing keeps its maximum and is never limited below use.
- Latency is mostly service, not queueing, so the limit follows it by a root: three requests too
  many at 32 slots make the first token five times as late, and call for a tenth less, not for four
  fifths.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, inf, sqrt
from statistics import median
from typing import Final

from .calmest import Calmest

WINDOW_S: Final = 1.0
"""Samples of so long are judged together, if there are `MIN_SAMPLES`; else as soon as there
are."""
MIN_SAMPLES: Final = 8
SLOW_WINDOWS: Final = 2
"""So many in a row are needed for a cut; each further one cuts again."""
TOLERANCE: Final = 3.0
MIN_EXCESS_S: Final = 0.1
EXPONENT: Final = 0.25
MIN_GRADIENT: Final = 0.3
"""At most so far down in one window."""
BACKPRESSURE_FACTOR: Final = 0.8
NOTHING_WAITS_FOR_S: Final = 3.0
"""How long a scrape without waiting requests vouches for a worker."""
NUM_SIZES: Final = 24


class _Endpoint:
    """What was learnt about one worker."""

    __slots__ = (
        "calmest", "excesses", "free_until", "last_cut_at", "limit", "most_in_flight",
        "num_slow", "ratios", "window_ends_at",
    )  # fmt: skip

    def __init__(self, limit: int, now: float) -> None:
        self.limit = limit
        self.calmest: list[Calmest | None] = [None] * NUM_SIZES
        """By bit length of the uncached tokens."""
        self.ratios: list[float] = []
        self.excesses: list[float] = []
        self.most_in_flight = 0
        self.window_ends_at = now + WINDOW_S
        self.last_cut_at = -inf
        self.free_until = -inf
        self.num_slow = 0
        """Slow windows in a row."""


class ConcurrencyLimit:
    """Limits of all endpoints of a process, by endpoint_id. About 2 us a response."""

    def __init__(
        self,
        *,
        min_limit: int = 4,
        max_limit: int = 4096,
        on_change: Callable[[str, int], None] | None = None,
    ) -> None:
        """`on_change(endpoint_id, limit)` is called whenever a limit moves."""
        if not 1 <= min_limit <= max_limit:
            raise ValueError(
                f"min_limit must be between 1 and max_limit, got {min_limit} and {max_limit}"
            )
        self._min = min_limit
        self._max = max_limit
        self._on_change = on_change
        self._endpoints: dict[str, _Endpoint] = {}

    def limit(self, endpoint_id: str) -> int:
        """Requests it may have at once; the maximum until something is learnt."""
        endpoint = self._endpoints.get(endpoint_id)
        return self._max if endpoint is None else endpoint.limit

    def on_response(
        self, endpoint_id: str, ttft_s: float, uncached_tokens: int, in_flight: int, now: float
    ) -> None:
        """A first token came. `in_flight`: requests the endpoint had when this one was sent,
        itself included."""
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is None:
            endpoint = self._endpoints[endpoint_id] = _Endpoint(self._max, now)
        size = min(uncached_tokens.bit_length(), NUM_SIZES - 1)
        calmest = endpoint.calmest[size]
        if calmest is None:
            calmest = endpoint.calmest[size] = Calmest()
        calmest.add(in_flight, ttft_s)
        if now - ttft_s < endpoint.last_cut_at:
            return  # sent under a limit that is no more
        if in_flight > endpoint.most_in_flight:
            endpoint.most_in_flight = in_flight
        if calmest.is_known:
            endpoint.ratios.append(ttft_s / max(1e-6, calmest.expected_s))
            endpoint.excesses.append(ttft_s - calmest.expected_s)
            if now >= endpoint.window_ends_at and len(endpoint.ratios) >= MIN_SAMPLES:
                self._judge(endpoint_id, endpoint, now)

    def on_backpressure(self, endpoint_id: str, in_flight: int, now: float) -> None:
        """It answered 429 or 503: it has more than it wants. At most one cut a window."""
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is None:
            endpoint = self._endpoints[endpoint_id] = _Endpoint(self._max, now)
        if now - endpoint.last_cut_at >= WINDOW_S:
            limit = BACKPRESSURE_FACTOR * min(endpoint.limit, in_flight)
            self._cut(endpoint_id, endpoint, limit, now)

    def on_scrape(self, endpoint_id: str, num_running: int, num_waiting: int, now: float) -> None:
        """What its /metrics say. With nobody waiting it is not throttled for the next seconds."""
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is None:
            return
        endpoint.free_until = now + NOTHING_WAITS_FOR_S if num_waiting == 0 else -inf
        if num_waiting and endpoint.limit < num_running:
            self._set(endpoint_id, endpoint, num_running)  # it does run that many

    def forget(self, endpoint_id: str) -> None:
        """The endpoint is gone, or another process is behind its address."""
        self._endpoints.pop(endpoint_id, None)

    def _judge(self, endpoint_id: str, endpoint: _Endpoint, now: float) -> None:
        ratio = median(endpoint.ratios)
        excess_s = median(endpoint.excesses)
        most = endpoint.most_in_flight
        endpoint.ratios.clear()
        endpoint.excesses.clear()
        endpoint.most_in_flight = 0
        endpoint.window_ends_at = now + WINDOW_S
        if ratio > TOLERANCE and excess_s > MIN_EXCESS_S:
            endpoint.num_slow += 1
            if endpoint.num_slow >= SLOW_WINDOWS and now >= endpoint.free_until:
                gradient = max(MIN_GRADIENT, (TOLERANCE / ratio) ** EXPONENT)
                self._cut(endpoint_id, endpoint, gradient * min(most, endpoint.limit), now)
            return
        endpoint.num_slow = 0
        if most >= endpoint.limit:
            self._set(endpoint_id, endpoint, endpoint.limit + ceil(sqrt(endpoint.limit) / 2))

    def _cut(self, endpoint_id: str, endpoint: _Endpoint, limit: float, now: float) -> None:
        endpoint.last_cut_at = now
        endpoint.window_ends_at = now + WINDOW_S
        endpoint.ratios.clear()
        endpoint.excesses.clear()
        endpoint.most_in_flight = 0
        self._set(endpoint_id, endpoint, int(limit))

    def _set(self, endpoint_id: str, endpoint: _Endpoint, limit: int) -> None:
        limit = max(self._min, min(self._max, limit))
        if limit != endpoint.limit:
            endpoint.limit = limit
            if self._on_change is not None:
                self._on_change(endpoint_id, limit)
