"""How much work was sent where lately: what keeps new conversations from all going to one place.

Work is counted in tokens, each weighed 1 when it is sent and half after `half_life_s`. Instead of
shrinking every number as time goes by, new work is entered ever larger, and all are scaled back
now and then: O(1) a request.
"""

from __future__ import annotations

from math import exp2

LARGEST_SCALE = 2.0**40
"""Numbers are scaled back when new work counts so much more than at the start."""
TYPICAL_REQUESTS = 50.0
"""The typical work of a request is an average over about so many."""


class RecentWork:
    """Work per endpoint, over all requests this policy has decided."""

    def __init__(self, *, half_life_s: float = 10.0) -> None:
        self.half_life_s = half_life_s
        self.typical = 0.0
        """Tokens of a request, on average."""
        self.by_endpoint: dict[str, float] = {}
        """In units of `scale(now)` tokens."""
        self._start_s: float | None = None

    def scale(self, now: float) -> float:
        """What one token sent now counts, in the units of `by_endpoint`."""
        if self._start_s is None:
            self._start_s = now
        scale = exp2((now - self._start_s) / self.half_life_s)
        if scale > LARGEST_SCALE:
            # Whoever is down to less than a token has done nothing, or is gone.
            self.by_endpoint = {
                endpoint_id: work / scale
                for endpoint_id, work in self.by_endpoint.items()
                if work > scale
            }
            self._start_s = now
            return 1.0
        return scale

    def add(self, endpoint_id: str, tokens: float, now: float) -> None:
        """A request with so much work was sent there."""
        by_endpoint = self.by_endpoint
        scaled = tokens * self.scale(now)
        by_endpoint = self.by_endpoint  # `scale` may have replaced it
        by_endpoint[endpoint_id] = by_endpoint.get(endpoint_id, 0.0) + scaled
        if self.typical:
            self.typical += (tokens - self.typical) / TYPICAL_REQUESTS
        else:
            self.typical = tokens
