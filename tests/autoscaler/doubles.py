"""Doubles of the shell's seams: a platform in memory, and signals that a test sets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from shoal.autoscaler.core.decision import Decision
from shoal.autoscaler.core.observation import Observation
from shoal.autoscaler.core.state import ScalerState
from shoal.autoscaler.record.decision_record import DecisionRecord
from shoal.autoscaler.target import Replicas, observed
from shoal.errors import ScaleFailed


class MemoryTarget:
    """Replicas that are ready as soon as they are asked for."""

    def __init__(self, replicas: int = 0) -> None:
        self.now: Replicas | None = Replicas(desired=replicas, ready=replicas)
        self.asked: list[int] = []
        self.fault: Exception | None = None
        self.refusal: str | None = None
        self.stuck = False

    async def replicas(self) -> Replicas | None:
        if self.fault is not None:
            raise self.fault
        if self.stuck:
            await asyncio.Event().wait()
        return self.now

    async def scale(self, desired: int, decision: Decision) -> None:
        assert desired in decision.desired.values()
        self.asked.append(desired)
        if self.refusal is not None:
            raise ScaleFailed(self.refusal)
        if self.stuck:
            await asyncio.Event().wait()
        self.now = Replicas(desired=desired, ready=desired)


class SetCollector:
    """Says what a test has set."""

    def __init__(self, *, interval_s: float = 5.0) -> None:
        self.interval_s = interval_s
        self.arrivals: int | None = 0
        self.num_held = 0
        self.fault: Exception | None = None
        self.calls: list[float] = []
        self.demand = asyncio.Event()

    async def observe(self, replicas: Mapping[str, Replicas], now: float) -> Observation:
        self.calls.append(now)
        if self.fault is not None:
            raise self.fault
        return Observation(
            interval_s=self.interval_s,
            arrivals=self.arrivals,
            held=self.num_held,
            variants=tuple(observed(name, found) for name, found in replicas.items()),
        )

    async def held(self, wait_s: float) -> int:
        if self.fault is not None:
            raise self.fault
        try:
            async with asyncio.timeout(wait_s):
                await self.demand.wait()
        except TimeoutError:
            return 0
        return self.num_held


class ListRecorder:
    """Keeps all records."""

    def __init__(self) -> None:
        self.records: list[DecisionRecord] = []
        self.came = asyncio.Event()
        self.num_before = 0

    def before(self, state: ScalerState, now: float) -> None:
        self.num_before += 1

    def record(self, record: DecisionRecord) -> None:
        self.records.append(record)
        self.came.set()

    async def next(self) -> DecisionRecord:
        """The newest, when there is one that was not asked for yet."""
        async with asyncio.timeout(10):
            await self.came.wait()
        self.came.clear()
        return self.records[-1]
