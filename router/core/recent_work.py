"""How much work was sent where lately: what keeps new conversations from all going to one place.

Work is counted in whatever unit the scorer likes, weighed 1 when it is sent and half after
`half_life_s`. Instead of shrinking every number as time goes by, new work is entered ever larger,
and all are scaled back now and then: O(1) a request.
"""

from __future__ import annotations

from math import exp2
from typing import Final

LARGEST_SCALE: Final = 2.0**40
"""Numbers are scaled back when new work counts so much more than at the start."""
LONGEST_HALVINGS: Final = 1000.0
"""Nothing is left after so many, and a float goes no further than 1023."""
TYPICAL_REQUESTS: Final = 50.0
"""The typical work of a request is an average over about so many."""


class RecentWork:
    """Work per endpoint, over all requests this policy has decided."""

    def __init__(self, *, half_life_s: float = 10.0) -> None:
        self.half_life_s = half_life_s
        self.typical = 0.0
        """Work of a request, on average."""
        self.by_endpoint: dict[str, float] = {}
        """As of now when divided by `scale(now)`."""
        self._start_s: float | None = None
        self._scaled_at: float | None = None
        self._scale = 1.0

    def scale(self, now: float) -> float:
        """What one unit of work sent now counts in `by_endpoint`."""
        if now == self._scaled_at:
            return self._scale
        if self._start_s is None:
            self._start_s = now
        scale = exp2(min((now - self._start_s) / self.half_life_s, LONGEST_HALVINGS))
        if scale > LARGEST_SCALE:
            # Whoever has less than a millionth of a typical request has done nothing, or is gone.
            self.by_endpoint = {
                endpoint_id: work / scale
                for endpoint_id, work in self.by_endpoint.items()
                if work > scale * self.typical * 1e-6
            }
            self._start_s = now
            scale = 1.0
        self._scaled_at = now
        self._scale = scale
        return scale

    def add(self, endpoint_id: str, amount: float, now: float) -> None:
        """A request with so much work was sent there."""
        scaled = amount * self.scale(now)
        by_endpoint = self.by_endpoint
        by_endpoint[endpoint_id] = by_endpoint.get(endpoint_id, 0.0) + scaled
        if self.typical:
            self.typical += (amount - self.typical) / TYPICAL_REQUESTS
        else:
            self.typical = amount
