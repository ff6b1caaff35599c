"""One model's loop: look, decide, write down, ask for it; every interval, and when it is woken.

The only place where targets, collector and `core.decide` meet. A source in trouble is a missing
number, a target in trouble a failure in the record: the next decision asks again, and the loop goes
on. What was learnt lives in memory: after a restart the numbers of replicas stay as they are until
there is something to decide from.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

import structlog

from shoal.clock import Clock, MonotonicClock
from shoal.errors import ScaleFailed

from .core.decision import Decision
from .core.observation import Observation
from .core.scaler import decide
from .core.state import ScalerState
from .policy import Mode, ScalingPolicy
from .record.decision_record import DecisionRecord, Recorder, spec_hash
from .target import Collector, Replicas, Target, observed

CALL_TIMEOUT_S = 10.0
"""For each target to tell or take a number, and for the collector to look."""
HELD_RETRY_S = 0.2
"""A collector that does not wait for demand is asked so often."""
_log = structlog.get_logger(__name__)


class ModelLoop:
    """Scales one model. `run` is a task of whoever makes it, and ends by cancellation."""

    def __init__(
        self,
        policy: ScalingPolicy,
        targets: Mapping[str, Target],
        *,
        collector: Collector,
        recorder: Recorder,
        clock: Clock | None = None,
        wall_time: Callable[[], float] = time.time,
        call_timeout_s: float = CALL_TIMEOUT_S,
        state: ScalerState | None = None,
    ) -> None:
        """`targets` by variant; one for each of the policy's. `state`: what another loop has learnt
        that scaled the same by the same clock."""
        if missing := {v.name for v in policy.spec.variants} - targets.keys():
            raise ValueError(f"{policy.model}: no target for the variant {min(missing)!r}")
        self.policy = policy
        self._targets = targets
        self._collector = collector
        self._recorder = recorder
        self._clock = clock or MonotonicClock()
        self._wall_time = wall_time
        self._timeout_s = call_timeout_s
        self._state = state or ScalerState.of(policy.spec)
        self._spec_hash = spec_hash(policy.spec)
        self._woken = asyncio.Event()
        self._waits_for_demand = False
        self._log = _log.bind(model=policy.model)

    def wake(self) -> None:
        """Decide now: something has changed that the next interval should not have to wait for."""
        self._woken.set()

    async def run(self) -> None:
        """Decide for ever. Steps never overlap; after a slow one the next begins at once."""
        while True:
            started = self._clock.now()
            try:
                await self.step()
            except Exception:
                # A fault of ours: the number of replicas stays, and the next step may go well.
                self._log.exception("scaler.fault")
            await self._pause(started + self.policy.interval_s)

    async def step(self) -> DecisionRecord:
        """One decision, carried out."""
        started = self._clock.now()
        self._woken.clear()
        replicas = await self._replicas()
        now = self._clock.now()
        observation = await self._observe(replicas, now)
        self._recorder.before(self._state, now)
        decision = decide(self.policy.spec, observation, self._state, now)
        before = {name: found.desired for name, found in replicas.items()}
        failures = await self._apply(decision, before)
        desired = {**before, **decision.desired}
        # Demand that was seen and still got no replica is looked at with the next interval.
        self._waits_for_demand = not any(desired.values()) and not observation.held
        record = DecisionRecord(
            time=self._wall_time(),
            now=now,
            model=self.policy.model,
            mode=self.policy.mode.value,
            spec_hash=self._spec_hash,
            observation=observation,
            decision=decision,
            before=before,
            applied=self.policy.mode is Mode.AUTO and not failures,
            failures=failures,
            duration_s=self._clock.now() - started,
        )
        self._recorder.record(record)
        if record.changed:
            self._log.info(
                "scaler.decided", before=record.before, desired=decision.desired,
                mode=record.mode, applied=record.applied,
                reasons=[str(reason.kind) for reason in decision.reasons],
            )  # fmt: skip
        return record

    async def _pause(self, until: float) -> None:
        """Until that time, a `wake`, or somebody who waits for a model without replicas."""
        left = until - self._clock.now()
        if left <= 0:
            return
        waits: list[asyncio.Task[object]] = [asyncio.create_task(self._woken.wait())]
        if self._waits_for_demand:
            waits.append(asyncio.create_task(self._until_held(until)))
        try:
            await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _until_held(self, until: float) -> None:
        while (left := until - self._clock.now()) > 0:
            try:
                async with asyncio.timeout(left + self._timeout_s):
                    if await self._collector.held(left):
                        return
            except Exception as error:
                self._log.warning("collector.failed", error=_told(error))
            await asyncio.sleep(HELD_RETRY_S)

    async def _replicas(self) -> dict[str, Replicas]:
        """Of those targets that know."""
        names = [variant.name for variant in self.policy.spec.variants]
        found = await asyncio.gather(*(self._replicas_of(name) for name in names))
        return {n: replicas for n, replicas in zip(names, found, strict=True) if replicas}

    async def _replicas_of(self, name: str) -> Replicas | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._targets[name].replicas()
        except Exception as error:
            self._log.warning("target.unknown", variant=name, error=_told(error))
            return None

    async def _observe(self, replicas: Mapping[str, Replicas], now: float) -> Observation:
        """What is seen; nothing but the replicas when the collector, or any target, cannot tell.

        A variant that is not seen would be missing from the GPU budget and from the load: then
        nothing is decided anew.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                observation = await self._collector.observe(replicas, now)
        except Exception as error:
            self._log.warning("collector.failed", error=_told(error))
        else:
            if len(replicas) == len(self.policy.spec.variants):
                return observation
        return Observation(
            interval_s=self.policy.interval_s,
            arrivals=None,
            variants=tuple(observed(name, found) for name, found in replicas.items()),
        )

    async def _apply(self, decision: Decision, before: Mapping[str, int]) -> dict[str, str]:
        """Ask for what differs; why not, by variant."""
        if self.policy.mode is not Mode.AUTO:
            return {}
        names = [n for n, desired in decision.desired.items() if desired != before[n]]
        told = await asyncio.gather(*(self._scale(name, decision) for name in names))
        return {name: why for name, why in zip(names, told, strict=True) if why is not None}

    async def _scale(self, name: str, decision: Decision) -> str | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._targets[name].scale(decision.desired[name], decision)
        except Exception as error:
            why = str(error) if isinstance(error, ScaleFailed) else _told(error)
            self._log.warning("target.not_scaled", variant=name, error=why)
            return why
        return None


def _told(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"{type(error).__name__}: {error}"
