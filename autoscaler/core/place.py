"""Whether the platform has a place for more replicas: spot capacity goes, GPUs run out.

A replica without a place counts as coming for a while, for a cluster may be about to add a node.
After that it is counted out, and others take its load. No more are asked for until one has found a
place, or for `RETRY_S`; then one is tried.
"""

from __future__ import annotations

from dataclasses import dataclass

from .observation import VariantObservation

RETRY_S = 300.0
MANY = 1 << 30


@dataclass(slots=True)
class Place:
    """Of one variant."""

    lacking: int = 0
    """Replicas that are asked for and not counted on."""
    _since: float | None = None
    """Some have had no place from then on."""
    _retry_at: float | None = None
    """None: there was a place for the last that was asked for."""

    def observe(self, seen: VariantObservation, now: float, patience_s: float) -> None:
        self.lacking = 0
        if seen.unschedulable:
            self._since = now if self._since is None else self._since
            if now - self._since >= patience_s:
                self.lacking = min(seen.unschedulable, seen.desired)
                self._retry_at = now + RETRY_S
        else:
            self._since = None
            if seen.pending:
                self._retry_at = None

    def room(self, now: float) -> int:
        """How many more there may be a place for."""
        if self._retry_at is None:
            return MANY
        return 1 if now >= self._retry_at and self._since is None else 0
