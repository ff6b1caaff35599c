"""A variant whose replicas KEDA sets: what is asked for is what its metric will say.

The scaler needs no rights in the cluster. It counts the router's endpoints, takes its own last word
for what is wanted, and learns from the two how long a replica takes from the word to its first
request: KEDA's and the HPA's periods included.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

from shoal.clock import Clock

from ..collect.router_page import Endpoint
from ..core.decision import Decision
from ..target import Replicas

FORGET_S = 1800.0
"""A replica that was asked for and did not come in so long was never made."""


class MetricTarget:
    """A `Target`."""

    def __init__(
        self, endpoints: Callable[[], Awaitable[list[Endpoint] | None]], clock: Clock
    ) -> None:
        """`endpoints`: those of the variant, or None while the router does not tell."""
        self._endpoints = endpoints
        self._clock = clock
        self._desired: int | None = None
        self._ready: int | None = None
        self._ordered: deque[float] = deque()
        """When each replica was asked for that is not ready yet, oldest first."""

    async def replicas(self) -> Replicas | None:
        """After a start those that are there are taken for those that are wanted."""
        endpoints = await self._endpoints()
        if endpoints is None:
            return None
        ready = sum(endpoint.is_ready for endpoint in endpoints)
        if self._desired is None:
            self._desired = ready
        return Replicas(
            desired=self._desired,
            ready=ready,
            pending=max(self._desired - ready, 0),
            draining=len(endpoints) - ready,
            start_up_s=self._started(ready),
        )

    async def scale(self, desired: int, decision: Decision) -> None:
        """KEDA reads it when it asks next."""
        present = self._desired or 0
        self._ordered.extend([self._clock.now()] * (desired - present))
        for _ in range(present - desired):
            if self._ordered:
                self._ordered.pop()  # the last that was ordered is the first to be called off
        self._desired = desired

    def _started(self, ready: int) -> tuple[float, ...]:
        """How long each replica took that became ready since the last call."""
        now = self._clock.now()
        while self._ordered and now - self._ordered[0] > FORGET_S:
            self._ordered.popleft()
        num_new = 0 if self._ready is None else max(ready - self._ready, 0)
        self._ready = ready
        return tuple(now - self._ordered.popleft() for _ in range(min(num_new, len(self._ordered))))
