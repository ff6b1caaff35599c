from __future__ import annotations

import pytest

from shoal.autoscaler.collect.router_page import Endpoint
from shoal.autoscaler.core.decision import Decision
from shoal.autoscaler.keda.metric_target import FORGET_S, MetricTarget
from shoal.autoscaler.target import Replicas
from shoal.clock import VirtualClock

NOTHING = Decision(desired={}, valid=True, reasons=(), explain={})


class World:
    """A variant with endpoints that a test sets."""

    def __init__(self, *statuses: str) -> None:
        self.statuses: tuple[str, ...] | None = statuses
        self.clock = VirtualClock(100.0)
        self.target = MetricTarget(self._endpoints, self.clock)

    async def _endpoints(self) -> list[Endpoint] | None:
        if self.statuses is None:
            return None
        return [Endpoint(url=f"http://w{i}", status=s) for i, s in enumerate(self.statuses)]

    async def replicas(self, after_s: float = 0.0) -> Replicas:
        self.clock.advance(after_s)
        found = await self.target.replicas()
        assert found is not None
        return found

    async def scale(self, desired: int) -> None:
        await self.target.scale(desired, NOTHING)


async def test_after_a_start_what_is_there_is_what_is_wanted() -> None:
    world = World("ready", "ready", "draining")
    assert await world.replicas() == Replicas(desired=2, ready=2, draining=1)


async def test_what_was_asked_for_and_is_not_there_is_pending() -> None:
    world = World("ready")
    await world.replicas()
    await world.scale(3)
    assert await world.replicas() == Replicas(desired=3, ready=1, pending=2)


async def test_a_start_up_is_from_the_word_to_the_first_request() -> None:
    world = World("ready")
    await world.replicas()
    await world.scale(3)
    world.statuses = ("ready", "ready")
    assert (await world.replicas(40.0)).start_up_s == (40.0,)
    world.statuses = ("ready",) * 3
    assert (await world.replicas(5.0)).start_up_s == (45.0,)
    assert (await world.replicas(5.0)).start_up_s == ()


async def test_one_that_comes_back_was_not_ordered() -> None:
    world = World("ready", "ready")
    await world.replicas()
    world.statuses = ("ready",)
    await world.replicas()
    world.statuses = ("ready", "ready")
    assert (await world.replicas(30.0)).start_up_s == ()


async def test_one_that_was_called_off_does_not_start() -> None:
    world = World("ready")
    await world.replicas()
    await world.scale(2)
    world.clock.advance(10.0)
    await world.scale(3)
    await world.scale(2)
    world.statuses = ("ready", "ready")
    assert (await world.replicas(10.0)).start_up_s == (20.0,)


async def test_one_that_never_came_is_forgotten() -> None:
    world = World()
    await world.replicas()
    await world.scale(1)
    world.statuses = ("ready",)
    assert (await world.replicas(FORGET_S + 1)).start_up_s == ()


@pytest.mark.parametrize("desired", [None, 3])
async def test_while_the_router_does_not_tell_nothing_is_known(desired: int | None) -> None:
    world = World("ready")
    if desired is not None:
        await world.replicas()
        await world.scale(desired)
    world.statuses = None
    assert await world.target.replicas() is None
