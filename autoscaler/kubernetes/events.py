"""Kubernetes Events: which to write, which to count, which to drop. Pure.

The same thing told again counts up the Event there is. What one object may tell is bounded: a
burst, then one every quarter of a minute (about the numbers of client-go's spam filter).
"""

from __future__ import annotations

from dataclasses import dataclass, field

SAME_S = 600.0
"""Told again within so long it is the same Event."""
COUNT_EVERY_S = 30.0
"""A count is written so often at the most."""
BURST = 20.0
REFILL_S = 15.0
MAX_OBJECTS = 4096
MAX_NOTE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Regarding:
    """The object an Event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Something that happened, for people."""

    regarding: Regarding
    reason: str
    """A word in CamelCase."""
    note: str
    is_warning: bool = False


@dataclass(slots=True)
class _Known:
    """An Event that was written."""

    number: int
    last_at: float
    written_at: float
    count: int = 1


@dataclass(frozen=True, slots=True)
class Write:
    """Write this Event: a new one, or the count of one that there is."""

    number: int
    """Ours, for its name."""
    count: int


@dataclass(slots=True)
class _Tokens:
    left: float = BURST
    at: float = 0.0


@dataclass(slots=True)
class Ledger:
    """What was told of late."""

    num_dropped: int = 0
    _next: int = 0
    _known: dict[tuple[Regarding, str, str], _Known] = field(default_factory=dict)
    _tokens: dict[Regarding, _Tokens] = field(default_factory=dict)

    def take(self, told: Told, now: float) -> Write | None:
        """None: nothing is to be written for it."""
        self._forget(now)
        key = told.regarding, told.reason, told.note
        known = self._known.get(key)
        if known is not None:
            known.count += 1
            known.last_at = now
            if now - known.written_at < COUNT_EVERY_S:
                return None
            known.written_at = now
            return Write(known.number, known.count)
        if not self._may_tell(told.regarding, now):
            self.num_dropped += 1
            return None
        self._next += 1
        self._known[key] = _Known(self._next, now, now)
        return Write(self._next, 1)

    def _may_tell(self, regarding: Regarding, now: float) -> bool:
        if regarding not in self._tokens and len(self._tokens) >= MAX_OBJECTS:
            return False
        tokens = self._tokens.setdefault(regarding, _Tokens(at=now))
        tokens.left = min(BURST, tokens.left + (now - tokens.at) / REFILL_S)
        tokens.at = now
        if tokens.left < 1:
            return False
        tokens.left -= 1
        return True

    def _forget(self, now: float) -> None:
        old = [key for key, known in self._known.items() if now - known.last_at >= SAME_S]
        for key in old:
            del self._known[key]
        full = [
            regarding
            for regarding, tokens in self._tokens.items()
            if now - tokens.at >= BURST * REFILL_S
        ]
        for regarding in full:
            del self._tokens[regarding]
