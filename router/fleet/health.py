"""What probes say about an endpoint: pure, one object an endpoint.

A starting worker stays STARTING until it answers, however long it loads its model. A ready one
that misses a probe is asked again soon, and is UNHEALTHY after `failures` in a row; one success is
enough to be READY. After trouble probes come fast, so that a restarted worker is back within a
second; after minutes of it less often, so that a dead half of a fleet costs little.
"""

from __future__ import annotations

from ..core.types import EndpointStatus

RECOVERY_INTERVAL_S = 0.25
"""Between probes of an endpoint that does not answer."""
RECOVERY_S = 120.0
"""How long they come so fast."""
LONG_DEAD_INTERVAL_S = 1.0


class Health:
    """Status by probes alone; operators and discovery have their own say."""

    __slots__ = ("_failing_since", "_failures", "last_error", "num_failures", "status")

    def __init__(self, failures: int) -> None:
        self._failures = failures
        self._failing_since: float | None = None
        self.num_failures = 0
        """In a row, up to now."""
        self.status = EndpointStatus.STARTING
        self.last_error: str | None = None
        """Why the last probe failed; None: it did not."""

    def configure(self, failures: int) -> None:
        self._failures = failures

    def succeeded(self) -> bool:
        """A probe found it healthy; returns whether the status has changed."""
        self.num_failures = 0
        self._failing_since = None
        self.last_error = None
        changed = self.status is not EndpointStatus.READY
        self.status = EndpointStatus.READY
        return changed

    def failed(self, reason: str, now: float) -> bool:
        """A probe found nobody, or somebody unwell; returns whether the status has changed."""
        self.num_failures += 1
        self.last_error = reason
        if self._failing_since is None:
            self._failing_since = now
        if self.status is EndpointStatus.READY and self.num_failures >= self._failures:
            self.status = EndpointStatus.UNHEALTHY
            return True
        return False

    def next_probe_s(self, interval_s: float, now: float) -> float:
        """Seconds until the next probe."""
        if self._failing_since is None:
            return interval_s
        is_fresh = now - self._failing_since < RECOVERY_S
        return min(interval_s, RECOVERY_INTERVAL_S if is_fresh else LONG_DEAD_INTERVAL_S)
