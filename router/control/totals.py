"""Metrics of all data-plane processes together, those that have ended included.

A counter that went down would look to Prometheus like a restart of everything. So what a process
last reported stays in the sum after its end, without its gauges: what it held is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..telemetry.families import FAMILIES
from ..telemetry.snapshot import Snapshot, from_plain, merge


class Totals:
    """Invariant: a counter of the sum never goes down."""

    def __init__(self) -> None:
        self._ended: Snapshot = {}
        self._latest: dict[int, Snapshot] = {}

    def note(self, process: int, body: Mapping[str, Any]) -> None:
        """A living process has reported."""
        self._latest[process] = from_plain(body)

    def left(self, process: int) -> None:
        """It has ended; what it counted after its last report is lost."""
        latest = self._latest.pop(process, None)
        if latest is not None:
            self._ended = merge((self._ended, _without_gauges(latest)))

    def merged(self) -> Snapshot:
        """The sum of what was last reported."""
        return merge((self._ended, *self._latest.values()))


def _without_gauges(snapshot: Snapshot) -> Snapshot:
    return {
        name: children
        for name, children in snapshot.items()
        if name in FAMILIES and FAMILIES[name].kind != "gauge"
    }
