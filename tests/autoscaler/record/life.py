"""A model that is scaled for a while: a loop over doubles, with load that rises and falls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import sin

from shoal.autoscaler.core.observation import Observation
from shoal.autoscaler.core.spec import Pace, ScalingSpec, VariantSpec
from shoal.autoscaler.loop import ModelLoop
from shoal.autoscaler.policy import ScalingPolicy
from shoal.autoscaler.record.decision_record import Recorder
from shoal.autoscaler.target import Replicas, observed
from shoal.clock import VirtualClock
from tests.autoscaler.doubles import MemoryTarget
from tests.autoscaler.records import WALL

SPEC = ScalingSpec(
    variants=(VariantSpec(max_replicas=20),), pace=Pace(start_up_s=20.0, scale_down_delay_s=30.0)
)


class Load:
    """A collector whose numbers are made of the time; sometimes it knows nothing."""

    def __init__(self) -> None:
        self.num_looks = 0

    async def observe(self, replicas: Mapping[str, Replicas], now: float) -> Observation:
        self.num_looks += 1
        rate = 10 + 8 * sin(self.num_looks / 15)
        # 0.23 s of a replica's time a request; a token takes longer the busier its replica is.
        ready = sum(found.ready for found in replicas.values())
        tpot = 0.02 / (1 - min(0.23 * rate / max(ready, 1), 0.95))
        arrivals = round(5 * rate)
        variants = tuple(
            replace(
                observed(name, found), num_running=200 * rate * tpot, num_waiting=0.0, kv_usage=0.3,
                input_tokens_per_s=rate * 1000, output_tokens_per_s=rate * 200, tpot_s=tpot,
                num_first_tokens=arrivals, num_in_time=arrivals - self.num_looks % 3,
                num_finished=arrivals,
            )
            for name, found in replicas.items()
        )  # fmt: skip
        return Observation(
            interval_s=5.0,
            arrivals=None if self.num_looks % 50 == 0 else arrivals,
            input_tokens=arrivals * 1000, output_tokens=arrivals * 200, queued=0, held=0,
            variants=variants,
        )  # fmt: skip

    async def held(self, wait_s: float) -> int:
        return 0


class Life:
    """One life of a process."""

    def __init__(self, recorder: Recorder, *, start: float = 1000.0) -> None:
        self.clock = VirtualClock(start)
        self.policy = ScalingPolicy(model="m", spec=SPEC)
        self.load = Load()
        self.loop = ModelLoop(
            self.policy, {"default": MemoryTarget(1)}, collector=self.load, recorder=recorder,
            clock=self.clock, wall_time=lambda: WALL + self.clock.now(),
        )  # fmt: skip

    async def run(self, num_steps: int) -> None:
        for _ in range(num_steps):
            self.clock.advance(5.0)
            await self.loop.step()
