"""How long replicas took to start: from their creation to being ready, each told once.

Both times are the cluster's own, to the second, so our clock has no part in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

MAX_S = 6 * 3600.0
"""Longer is no start-up that anything could be learnt from."""

Unit = tuple[str, datetime | None, datetime | None]
"""uid, created, ready (None: not yet)."""


class StartUps:
    """Of one target. Those that were ready when we came are of no interest: they may have been
    restarted, or have waited for a place for hours."""

    def __init__(self) -> None:
        self._told: set[str] | None = None

    def note(self, units: Iterable[Unit]) -> tuple[float, ...]:
        """All there are now; returns the seconds of each that has become ready since."""
        units = list(units)
        ready = {uid for uid, _, at in units if at is not None}
        if self._told is None:
            self._told = ready
            return ()
        took = [
            (at - created).total_seconds()
            for uid, created, at in units
            if at is not None and created is not None and uid not in self._told
        ]
        # What was ready once stays told while it is there, ready or not.
        self._told = (self._told & {uid for uid, _, _ in units}) | ready
        return tuple(seconds for seconds in took if 0 <= seconds <= MAX_S)
