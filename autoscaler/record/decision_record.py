"""One decision with all that led to it and what came of it."""

from __future__ import annotations

import hashlib
from typing import Protocol

import msgspec

from ..core.decision import Decision
from ..core.observation import Observation
from ..core.spec import ScalingSpec
from ..core.state import ScalerState


class DecisionRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="decision"):
    """What `decide` got, what it said, and what was done; with both it can be decided again."""

    time: float
    """Unix time in seconds, for people."""
    now: float
    """What `decide` was told: seconds on a clock that never goes back."""
    model: str
    mode: str
    spec_hash: str
    observation: Observation
    decision: Decision
    before: dict[str, int]
    """Replicas of each variant that the targets said they want."""
    applied: bool
    """Whether all that was to be changed was asked for; always false when advising."""
    failures: dict[str, str] = {}
    """By variant: why its number was not taken."""
    duration_s: float = 0.0
    """Of the whole step: look, decide, ask for it."""

    @property
    def changed(self) -> dict[str, int]:
        """The variants whose number is another now, and that number."""
        return {
            name: desired
            for name, desired in self.decision.desired.items()
            if desired != self.before.get(name)
        }


class Recorder(Protocol):
    """Takes decisions of one model. Neither method may raise, or take long."""

    def before(self, state: ScalerState, now: float) -> None:
        """Called right before each `decide`, with the state that it will change."""

    def record(self, record: DecisionRecord) -> None:
        """Called once for each decision, when it was applied or failed."""


class Recorders:
    """Several as one."""

    def __init__(self, *recorders: Recorder) -> None:
        self._recorders = recorders

    def before(self, state: ScalerState, now: float) -> None:
        for recorder in self._recorders:
            recorder.before(state, now)

    def record(self, record: DecisionRecord) -> None:
        for recorder in self._recorders:
            recorder.record(record)


def spec_hash(spec: ScalingSpec) -> str:
    """Twelve hex digits: equal for equal specs."""
    return hashlib.sha256(msgspec.json.encode(spec, order="deterministic")).hexdigest()[:12]
