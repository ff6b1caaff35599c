"""A recorded log decided again: by today's code, or under another policy.

What was seen is taken from the log as it is. Another policy would have led to other replicas, and
so to other observations: its decisions are answers to what was seen, not what would have become.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from shoal.errors import ConfigError

from ..core.decision import Decision
from ..core.scaler import decide
from ..core.spec import ScalingSpec
from ..core.state import ScalerState
from .decision_record import DecisionRecord
from .log import LogStart, with_finite_numbers
from .snapshot import SnapshotUnfit, from_plain

_decode = msgspec.json.Decoder(LogStart | DecisionRecord).decode


class Difference(enum.StrEnum):
    """How a decision differs from the recorded one; the gravest counts."""

    NONE = "none"
    EXPLANATION = "explanation"
    """The same numbers of replicas for the same reasons, from other figures."""
    REASONS = "reasons"
    REPLICAS = "replicas"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One decision, then and now."""

    record: DecisionRecord
    decision: Decision
    difference: Difference


@dataclass(slots=True)
class Replay:
    """`run` goes through lines once; the counts are for afterwards."""

    spec: ScalingSpec | None = None
    """None: each part of the log has its own."""
    num_skipped: int = 0
    """Lines that are none, and decisions before any start."""
    note: str = ""
    """Why something was learnt anew, if it was."""

    def run(self, lines: Iterable[bytes]) -> Iterator[Replayed]:
        """Decide each again, in the order of the log."""
        spec, state = self.spec, None
        for line in lines:
            try:
                entry = _decode(line)
            except msgspec.MsgspecError:
                self.num_skipped += 1
                continue
            if isinstance(entry, LogStart):
                if self.spec is None:
                    spec, state = entry.spec, self._restored(entry)
                elif state is None or entry.is_new:
                    state = ScalerState.of(self.spec)
            elif spec is None or state is None:
                self.num_skipped += 1
            else:
                decision = decide(spec, entry.observation, state, entry.now)
                again = with_finite_numbers(msgspec.structs.replace(entry, decision=decision))
                yield Replayed(
                    record=entry,
                    decision=again.decision,
                    difference=difference(entry.decision, again.decision),
                )

    def _restored(self, start: LogStart) -> ScalerState:
        try:
            return from_plain(start.state, start.spec)
        except SnapshotUnfit as error:
            self.note = f"the state in the log is of Shoal {start.version} ({error}): learnt anew"
            return ScalerState.of(start.spec)


def difference(one: Decision, other: Decision) -> Difference:
    """Exact: the last bit of a figure counts."""
    if (one.desired, one.valid) != (other.desired, other.valid):
        return Difference.REPLICAS
    if [(r.kind, r.variant) for r in one.reasons] != [(r.kind, r.variant) for r in other.reasons]:
        return Difference.REASONS
    return Difference.NONE if one == other else Difference.EXPLANATION


def read_lines(paths: Iterable[Path]) -> Iterator[bytes]:
    """Of several files as of one, the oldest first whatever their order. Raises ConfigError."""
    try:
        by_age = sorted(paths, key=_first_time)
        for path in by_age:
            with path.open("rb") as file:
                yield from file
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be read: {error.strerror}") from None


def _first_time(path: Path) -> float:
    """Unix time of its first decision."""
    with path.open("rb") as file:
        for line in file:
            try:
                entry = _decode(line)
            except msgspec.MsgspecError:
                continue
            if isinstance(entry, DecisionRecord):
                return entry.time
    return 0.0
