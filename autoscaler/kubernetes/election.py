"""Who leads: what to do with a Lease, as a function of what was seen of it. Pure.

Each replica trusts its own clock alone. A lease is over when nobody was *seen* to renew it for its
duration, whatever time is written in it; and we lead for `renew_deadline_s` from when we began the
last renewal that succeeded. Clocks that differ or jump change nothing. (The rule is that of
client-go's leader election.)

What makes two leaders impossible: others wait `lease_s` from when they saw a renewal, which is
after we began it; we stop `renew_deadline_s` after we began it; and a write takes no longer than
the difference.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    lease_s: int = 15
    renew_deadline_s: float = 10.0
    retry_s: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.retry_s < self.renew_deadline_s < self.lease_s:
            raise ValueError("an election needs 0 < retry_s < renew_deadline_s < lease_s")


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """The lease as it is written; compared, never read as a time."""

    holder: str
    """Empty: given back."""
    renewed: str
    transitions: int
    version: str
    lease_s: float = 15.0
    """What its holder promised."""


class Move(enum.Enum):
    CREATE = enum.auto()
    TAKE = enum.auto()
    """Write our name into it, if it is still as we saw it."""
    RENEW = enum.auto()
    WAIT = enum.auto()


class Election:
    """One replica's view. `now` in seconds of a clock that never goes back and that counts the
    time in which the machine was suspended."""

    def __init__(self, identity: str, timing: Timing) -> None:
        self.identity = identity
        self.timing = timing
        self.seen: LeaseRecord | None = None
        self._seen_at = 0.0
        self._leads_until: float | None = None

    def leads(self, now: float) -> bool:
        """Whether a write may begin now."""
        return self._leads_until is not None and now < self._leads_until

    def seconds_left(self, now: float) -> float | None:
        """Of our time; None: we do not lead."""
        return None if self._leads_until is None else self._leads_until - now

    def observe(self, record: LeaseRecord | None, now: float) -> None:
        """The lease as it was just read; None: there is none."""
        if record != self.seen:
            self.seen, self._seen_at = record, now
        if record is not None and record.holder != self.identity:
            self._leads_until = None

    def move(self, now: float) -> Move:
        """What to do after `observe`."""
        if self.seen is None:
            return Move.CREATE
        if self.seen.holder == self.identity:
            return Move.RENEW
        is_over = now - self._seen_at >= max(self.seen.lease_s, self.timing.lease_s)
        return Move.TAKE if not self.seen.holder or is_over else Move.WAIT

    def wrote(self, record: LeaseRecord, began: float, now: float) -> None:
        """The API server took our record; `began` is when we sent it."""
        self.seen, self._seen_at = record, now
        self._leads_until = began + self.timing.renew_deadline_s

    def resign(self) -> None:
        """No write after this one call."""
        self._leads_until = None
