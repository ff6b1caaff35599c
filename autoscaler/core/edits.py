"""Whether somebody else changes the number of replicas.

A number that moved is somebody else's when it is not on the way to the one that was decided:
platforms may take a while, and in steps.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Edits:
    """Of one variant."""

    decided: int | None = None
    """By the last decision."""
    kept_until: float = 0.0
    """Nothing is given up before: whoever edits has a reason that the numbers do not show."""
    _seen: int | None = None

    def observe(self, present: int, now: float, keep_s: float) -> bool:
        """Whether the number is another than before, and not the one that was decided."""
        before, self._seen = self._seen, present
        if before is None or self.decided is None or present == before:
            return False
        low, high = sorted((before, self.decided))
        if low <= present <= high:
            return False
        self.kept_until = now + keep_s
        return True
