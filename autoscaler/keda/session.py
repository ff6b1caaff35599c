"""One policy at work for KEDA: its loop, and what its metrics say now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from shoal.clock import Clock
from shoal.errors import ShoalError

from ..collect.collector import HttpCollector
from ..core.decision import ReasonKind
from ..core.state import ScalerState
from ..loop import ModelLoop
from ..policy import Mode, ScalingPolicy
from ..record.decision_record import DecisionRecord, Recorder, Recorders
from .metric_target import MetricTarget

STALE_INTERVALS = 3.0
LEAST_STALE_S = 30.0
"""A decision that is older than both says nothing of now."""


class NotKnown(ShoalError):
    """There is nothing to tell KEDA: it then keeps the replicas there are."""


class Session:
    """Started by whoever makes it, and ended with `close`. A `Recorder` of its own loop."""

    def __init__(
        self,
        policy: ScalingPolicy,
        collector: HttpCollector,
        clock: Clock,
        *,
        recorders: tuple[Recorder, ...] = (),
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.policy = policy
        self._clock = clock
        self._on_close = on_close
        self._begun = clock.now()
        self._last: DecisionRecord | None = None
        self._news = asyncio.Event()
        targets = {
            variant.name: MetricTarget(partial(collector.endpoints, variant.name), clock)
            for variant in policy.spec.variants
        }
        self._loop = ModelLoop(
            policy,
            targets,
            collector=collector,
            recorder=Recorders(*recorders, self),
            clock=clock,
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Decide from now on."""
        self._task = asyncio.create_task(self._loop.run())

    async def close(self) -> None:
        """Decide no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._on_close()

    def before(self, state: ScalerState, now: float) -> None:
        """Nothing to tell yet."""

    def record(self, record: DecisionRecord) -> None:
        self._last = record
        self._news.set()
        self._news = asyncio.Event()

    @property
    def news(self) -> asyncio.Event:
        """Set at the next decision."""
        return self._news

    def replicas(self, variant: str) -> int:
        """That there should be of a variant. Raises NotKnown."""
        last = self._last
        if self.policy.mode is Mode.ADVISE:
            raise NotKnown("the policy advises and changes nothing (mode: advise)")
        if last is None:
            raise NotKnown("no decision yet")
        age_s = self._clock.now() - last.now
        if age_s > max(STALE_INTERVALS * self.policy.interval_s, LEAST_STALE_S):
            raise NotKnown(f"the last decision is {age_s:.0f} s old")
        is_held = any(reason.kind is ReasonKind.HELD for reason in last.decision.reasons)
        if not (last.decision.valid or is_held) or variant not in last.decision.desired:
            raise NotKnown("the router, or its workers, cannot be read")
        desired = last.decision.desired[variant]
        if self._clock.now() - self._begun < self.policy.spec.pace.scale_down_delay_s and any(
            desired <= seen.ready for seen in last.observation.variants if seen.name == variant
        ):
            # How many were asked for is not known yet, only how many are ready: those that are
            # starting would be given up.
            raise NotKnown("begun a moment ago, and nothing more is needed than there is")
        return desired
