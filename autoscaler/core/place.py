"""Whether the platform has a place for more replicas: spot capacity goes, GPUs run out.

A replica without a place counts as coming for a while, for a cluster may be about to add a node.
After that it is counted out, and others take its load. That it was so is remembered: the variant is
asked for more again when one of its replicas finds a place, or after `RETRY_S`.
"""

from __future__ import annotations

from dataclasses import dataclass

from .observation import VariantObservation

RETRY_S = 300.0


@dataclass(slots=True)
class Place:
    """Of one variant."""

    lacking: int = 0
    """Replicas that are asked for and not counted on."""
    _since: float | None = None
    _full_until: float = 0.0

    def observe(self, seen: VariantObservation, now: float, patience_s: float) -> None:
        self.lacking = 0
        if seen.unschedulable:
            self._since = now if self._since is None else self._since
            if now - self._since >= patience_s:
                self.lacking = min(seen.unschedulable, seen.desired)
                self._full_until = now + RETRY_S
        else:
            self._since = None
            if seen.pending:
                self._full_until = now

    def is_full(self, now: float) -> bool:
        """Whether more would find no place either."""
        return now < self._full_until
