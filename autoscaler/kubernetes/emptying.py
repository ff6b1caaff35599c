"""A way down: which pods are being emptied, since when, and when replicas may be lowered. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

SETTLE_S = 1.0
"""Requests that were on their way when a drain began are counted by then."""
LEAVE_S = 60.0
"""A pod that its controller has not picked by then stays, and is taken back into use."""


@dataclass(slots=True)
class Emptying:
    """From `spec.replicas` as it is down to `keep`, at the latest after `timeout_s`."""

    keep: int
    timeout_s: float
    since: dict[str, float] = field(default_factory=dict)
    """By pod."""

    def choose(self, names: Collection[str], now: float) -> None:
        """These and no others; those that were chosen before keep their time."""
        self.since = {name: self.since.get(name, now) for name in names}

    def is_done(self, in_flight: Mapping[str, int] | None, now: float) -> bool:
        """Whether each has nothing left to do, or no time; `in_flight` None: nobody knows."""
        return all(
            now - since >= self.timeout_s
            or (now - since >= SETTLE_S and in_flight is not None and in_flight.get(name, 0) <= 0)
            for name, since in self.since.items()
        )


class Leaving:
    """Pods that were emptied and that their controller is about to delete."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, names: Collection[str], now: float) -> None:
        self._until.update(dict.fromkeys(names, now + LEAVE_S))

    def clear(self) -> None:
        """They are wanted again."""
        self._until.clear()

    def names(self, now: float) -> frozenset[str]:
        self._until = {name: until for name, until in self._until.items() if now < until}
        return frozenset(self._until)
