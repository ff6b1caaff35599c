"""What one policy tells: Events for people, and the status of its object. A `Recorder`.

Status goes out at once when something has changed that people act on; numbers in its sentences
change with each decision, and go out every half minute.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

import structlog

from shoal.clock import Clock
from shoal.errors import ClusterError

from ..core.state import ScalerState
from ..policy import Mode
from ..record.decision_record import DecisionRecord
from .api import MERGE_PATCH, Api
from .conditions import EDIT_SHOWS_S, Facts, Problem, iso, material, status
from .edits import Edit
from .event_writer import Tell
from .events import Regarding, Told

WRITE_EVERY_S = 30.0
RETRY_S = 5.0

log = structlog.get_logger(__name__)


class Watched(Protocol):
    """What a target tells beside its replicas."""

    @property
    def problem(self) -> ClusterError | None: ...

    def why_pending(self) -> str: ...


class Report:
    """Of one policy, over all its lives (a spec that changes, a target that comes back)."""

    def __init__(self, *, key: str, regarding: Regarding | None, tell: Tell, clock: Clock) -> None:
        self.key = key
        self.regarding = regarding
        self.generation = 0
        self.mode = Mode.AUTO
        self.changed = asyncio.Event()
        """Whoever writes the status waits for it."""
        self._tell = tell
        self._clock = clock
        self._problem: Problem | None = None
        self._record: DecisionRecord | None = None
        self._targets: dict[str, tuple[Watched, Regarding]] = {}
        self._edit: tuple[str, float] | None = None
        self._advised: dict[str, int] = {}

    # What happens to the policy.

    def starts(
        self, *, mode: Mode, generation: int, targets: dict[str, tuple[Watched, Regarding]]
    ) -> None:
        """Its targets were found; decisions follow."""
        self.mode, self.generation = mode, generation
        self._targets = targets
        self._problem = None
        self.changed.set()

    def seen(self, generation: int) -> None:
        """The object was changed in nothing that matters here."""
        if generation != self.generation:
            self.generation = generation
            self.changed.set()

    def fails(self, problem: Problem, generation: int) -> None:
        """It does not scale."""
        self.generation = generation
        self._targets = {}
        self._record = None
        if problem != self._problem:
            self._problem = problem
            log.warning("policy.not_scaled", policy=self.key, reason=problem.reason,
                        message=problem.message)  # fmt: skip
            if self.regarding is not None:
                self._say(self.regarding, problem.reason, problem.message, is_warning=True)
        self.changed.set()

    def edited(self, variant: str, edit: Edit) -> None:
        """Somebody else set replicas."""
        text = f"{variant}: {edit}"
        log.warning("target.edited", policy=self.key, variant=variant, by=edit.by or None,
                    before=edit.before, after=edit.after)  # fmt: skip
        self._edit = text, self._clock.now()
        self._about(variant, "ReplicasEdited", text, is_warning=True)
        self.changed.set()

    # Recorder.

    def before(self, state: ScalerState, now: float) -> None:
        """Nothing to keep."""

    def record(self, record: DecisionRecord) -> None:
        was_lacking = self._lacking()
        self._record = record
        for variant, desired in record.changed.items():
            self._decided(record, variant, desired)
        for variant in self._lacking() - was_lacking:
            seen = next(v for v in record.observation.variants if v.name == variant)
            text = f"{variant}: {seen.unschedulable} replicas without a place. {self._why()}"
            self._about(variant, "Unschedulable", text, is_warning=True)
        self.changed.set()

    # For the status.

    def facts(self) -> Facts:
        edit = ""
        if self._edit is not None and self._clock.now() - self._edit[1] < EDIT_SHOWS_S:
            edit = self._edit[0]
        return Facts(
            generation=self.generation,
            mode=self.mode,
            problem=self._problem,
            record=self._record,
            why_pending=self._why(),
            edit=edit,
            target_problems={
                variant: Problem(getattr(problem, "reason", "TargetUnknown"), str(problem))
                for variant, (target, _) in self._targets.items()
                if (problem := target.problem) is not None
            },
        )

    def _decided(self, record: DecisionRecord, variant: str, desired: int) -> None:
        reasons = [r for r in record.decision.reasons if r.variant == variant]
        why = ", ".join(f"{r.kind.value} ({r.detail})" for r in reasons) or "no reason given"
        change = f"{variant}: {record.before.get(variant, 0)} -> {desired} replicas"
        if (failure := record.failures.get(variant)) is not None:
            self._about(variant, "ScaleFailed", f"{change}: {failure}", is_warning=True)
        elif self.mode is Mode.AUTO:
            self._about(variant, "Scaled", f"{change}: {why}")
        elif self._advised.get(variant) != desired:
            self._advised[variant] = desired
            self._about(variant, "Advised", f"{change} would be right: {why}")

    def _lacking(self) -> set[str]:
        seen = () if self._record is None else self._record.observation.variants
        return {variant.name for variant in seen if variant.unschedulable}

    def _why(self) -> str:
        return next((why for t, _ in self._targets.values() if (why := t.why_pending())), "")

    def _about(self, variant: str, reason: str, note: str, *, is_warning: bool = False) -> None:
        regarding = self.regarding
        if regarding is None and variant in self._targets:
            regarding = self._targets[variant][1]
        if regarding is not None:
            self._say(regarding, reason, note, is_warning=is_warning)

    def _say(self, regarding: Regarding, reason: str, note: str, *, is_warning: bool) -> None:
        self._tell(Told(regarding=regarding, reason=reason, note=note, is_warning=is_warning))


class StatusWriter:
    """The status of one object; `run` is a task of the controller."""

    def __init__(
        self, api: Api, path: str, report: Report, *, before: dict[str, Any] | None, clock: Clock
    ) -> None:
        """`path` of the object; `before`: its status as it was found."""
        self._api = api
        self._path = f"{path}/status"
        self._report = report
        self._written: dict[str, Any] = before or {}
        self._written_at: float | None = None
        self._clock = clock

    async def run(self) -> None:
        while True:
            await self._report.changed.wait()
            self._report.changed.clear()
            try:
                await self.write()
            except ClusterError as error:
                log.warning("status.not_written", policy=self._report.key, error=str(error))
                self._report.changed.set()
                await asyncio.sleep(RETRY_S)

    async def write(self) -> None:
        """If it is worth it. Raises ClusterError."""
        made = status(self._report.facts(), self._written, iso(time.time()))
        at = self._clock.now()
        is_due = self._written_at is None or at - self._written_at >= WRITE_EVERY_S
        if made == self._written or not (is_due or material(made) != material(self._written)):
            return
        # A field that is gone stays in a merge patch unless it is told to be gone.
        gone = dict.fromkeys(self._written.keys() - made.keys())
        await self._api.write(
            "PATCH", self._path, {"status": {**gone, **made}}, content_type=MERGE_PATCH
        )
        self._written, self._written_at = made, at
