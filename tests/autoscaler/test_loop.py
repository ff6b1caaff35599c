from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from shoal.autoscaler.core.decision import ReasonKind
from shoal.autoscaler.core.spec import ScalingSpec, VariantSpec
from shoal.autoscaler.loop import ModelLoop
from shoal.autoscaler.policy import Mode, ScalingPolicy
from shoal.autoscaler.target import Replicas
from shoal.clock import VirtualClock
from tests.autoscaler.doubles import ListRecorder, MemoryTarget, SetCollector

TWO = ScalingSpec(variants=(VariantSpec(name="a"), VariantSpec(name="b")))


class World:
    """A loop with doubles around it."""

    def __init__(
        self, *, replicas: int = 0, mode: Mode = Mode.AUTO, spec: ScalingSpec | None = None,
        interval_s: float = 300.0,
    ) -> None:  # fmt: skip
        spec = spec or ScalingSpec()
        self.clock = VirtualClock(100.0)
        self.collector = SetCollector()
        self.recorder = ListRecorder()
        self.targets = {v.name: MemoryTarget(replicas) for v in spec.variants}
        self.target = next(iter(self.targets.values()))
        self.loop = ModelLoop(
            ScalingPolicy(model="m", spec=spec, mode=mode, interval_s=interval_s),
            self.targets,
            collector=self.collector,
            recorder=self.recorder,
            clock=self.clock,
            wall_time=lambda: 1_700_000_000.0 + self.clock.now(),
            call_timeout_s=0.02,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.loop.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_step_looks_decides_scales_and_writes_down() -> None:
    world = World()
    world.collector.num_held = 3
    record = await world.loop.step()
    assert world.target.asked == [1]
    assert record.decision.desired == {"default": 1}
    assert (record.before, record.changed) == ({"default": 0}, {"default": 1})
    assert record.applied
    assert (record.now, record.time) == (100.0, 1_700_000_100.0)
    assert record.observation.held == 3
    assert world.recorder.records == [record]
    assert world.recorder.num_before == 1


async def test_what_is_already_so_is_not_asked_for_again() -> None:
    world = World(replicas=1)
    world.collector.arrivals = 2
    record = await world.loop.step()
    assert record.decision.valid
    assert world.target.asked == []
    assert record.applied


async def test_advice_changes_nothing() -> None:
    world = World(mode=Mode.ADVISE)
    world.collector.num_held = 1
    record = await world.loop.step()
    assert record.changed == {"default": 1}
    assert not record.applied
    assert world.target.asked == []


async def test_after_a_start_what_there_is_stays_until_there_is_something_to_decide_from() -> None:
    world = World(replicas=3)
    world.collector.arrivals = None
    record = await world.loop.step()
    assert record.decision.desired == {"default": 3}
    assert not record.decision.valid
    assert world.target.asked == []


@pytest.mark.parametrize("fault", [RuntimeError("router gone"), TimeoutError()])
async def test_a_collector_that_raises_is_no_data(fault: Exception) -> None:
    world = World(replicas=2)
    world.collector.fault = fault
    record = await world.loop.step()
    assert [r.kind for r in record.decision.reasons] == [ReasonKind.NO_METRICS]
    assert record.decision.desired == {"default": 2}


@pytest.mark.parametrize("trouble", ["raises", "hangs", "does not know"])
async def test_a_target_that_cannot_tell_holds_all_variants(trouble: str) -> None:
    world = World(replicas=2, spec=TWO)
    world.collector.arrivals = 10_000
    target = world.targets["b"]
    if trouble == "raises":
        target.fault = OSError("refused")
    elif trouble == "hangs":
        target.stuck = True
    else:
        target.now = None
    record = await world.loop.step()
    assert record.decision.desired == {"a": 2}
    assert not record.decision.valid
    assert world.target.asked == []


async def test_a_number_that_is_not_taken_is_written_down_and_asked_for_again() -> None:
    world = World()
    world.collector.num_held = 1
    world.target.refusal = "409 conflict"
    record = await world.loop.step()
    assert record.failures == {"default": "409 conflict"}
    assert not record.applied
    world.target.refusal = None
    world.clock.advance(5.0)
    assert (await world.loop.step()).applied
    assert world.target.asked == [1, 1]


async def test_a_target_that_hangs_does_not_hold_up_the_others() -> None:
    world = World(spec=TWO)
    world.collector.num_held = 1
    record = await world.loop.step()
    first = next(iter(record.changed))
    world = World(spec=TWO)
    world.collector.num_held = 1
    answer = world.targets[first].now

    async def tell() -> Replicas | None:
        return answer

    world.targets[first].replicas = tell  # type: ignore[method-assign]
    world.targets[first].stuck = True
    record = await world.loop.step()
    assert record.failures == {first: "no answer in time"}


async def test_what_another_loop_has_learnt_is_gone_on_with() -> None:
    world = World(replicas=1)
    world.collector.arrivals = 50
    for _ in range(3):
        world.clock.advance(5.0)
        await world.loop.step()
    learnt = world.loop._state
    again = ModelLoop(
        world.loop.policy, world.targets, collector=world.collector, recorder=world.recorder,
        clock=world.clock, state=learnt,
    )  # fmt: skip
    world.clock.advance(5.0)
    record = await again.step()
    assert record.decision.explain["arrivals_per_s"] == pytest.approx(10.0)
    assert again._state is learnt


async def test_each_interval_has_a_step_and_a_wake_brings_one_forward() -> None:
    world = World(replicas=1, interval_s=300.0)
    async with world.running():
        await world.recorder.next()
        world.loop.wake()
        await world.recorder.next()
        assert len(world.recorder.records) == 2


async def test_a_step_that_took_longer_than_the_interval_is_followed_by_one_and_not_by_many() -> (
    None
):
    world = World(replicas=1, interval_s=10.0)
    record = world.recorder.record
    slow = [35.0, 0.0]

    def take_long(record_: object) -> None:
        world.clock.advance(slow[0] if len(world.recorder.records) == 0 else slow[1])
        record(record_)  # type: ignore[arg-type]

    world.recorder.record = take_long  # type: ignore[method-assign, assignment]
    async with world.running():
        while len(world.recorder.records) < 2:
            await world.recorder.next()
        for _ in range(10):
            await asyncio.sleep(0)
    assert world.collector.calls == [100.0, 135.0]


async def test_somebody_who_waits_for_a_model_without_replicas_is_heeded_at_once() -> None:
    world = World(interval_s=300.0)
    async with world.running():
        await world.recorder.next()
        assert world.target.asked == []
        world.collector.num_held = 1
        world.collector.demand.set()
        await world.recorder.next()
    assert world.target.asked == [1]


async def test_demand_that_cannot_be_met_does_not_make_the_loop_spin() -> None:
    spec = ScalingSpec(variants=(VariantSpec(max_replicas=0),))
    world = World(spec=spec, interval_s=300.0)
    world.collector.num_held = 1
    world.collector.demand.set()
    async with world.running():
        await world.recorder.next()
        for _ in range(20):
            await asyncio.sleep(0)
    assert len(world.recorder.records) == 1


async def test_a_fault_of_ours_does_not_end_the_loop(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(replicas=1, interval_s=300.0)
    before = world.recorder.before

    def fail_once(state: object, now: float) -> None:
        world.recorder.before = before  # type: ignore[method-assign]
        world.loop.wake()
        raise RuntimeError("bug")

    world.recorder.before = fail_once  # type: ignore[method-assign, assignment]
    async with world.running():
        await world.recorder.next()
    assert len(world.recorder.records) == 1
    assert "scaler.fault" in capsys.readouterr().out


def test_each_variant_needs_a_target() -> None:
    with pytest.raises(ValueError, match="no target for the variant 'b'"):
        ModelLoop(
            ScalingPolicy(model="m", spec=TWO),
            {"a": MemoryTarget()},
            collector=SetCollector(),
            recorder=ListRecorder(),
        )
