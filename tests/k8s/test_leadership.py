"""Who leads, with the Leases of a real API server. At no time do two.

Safety is looked at all the time and holds on any machine; that somebody leads is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Sequence

import pytest

from shoal.autoscaler.kubernetes.api import Api as ShoalApi
from shoal.autoscaler.kubernetes.api import connect
from shoal.autoscaler.kubernetes.election import Timing
from shoal.autoscaler.kubernetes.lease import Leadership
from shoal.clock import Clock, VirtualClock
from tests.autoscaler.kubernetes.waiting import running

from .cluster.api import Api, Json, at
from .cluster.eventually import eventually
from .control_plane.launcher import ControlPlane

FAST = Timing(lease_s=2, renew_deadline_s=1.2, retry_s=0.1)
LOOK_S = 0.005


@pytest.fixture
async def shoal_api(control_plane: ControlPlane) -> AsyncIterator[ShoalApi]:
    async with connect(str(control_plane.kubeconfig)) as api:
        yield api


class Candidate:
    """One replica of the controller that wants to lead."""

    def __init__(
        self, api: ShoalApi, namespace: str, name: str, clock: Clock | None = None
    ) -> None:
        self.name = name
        self.works = False
        self.leadership = Leadership(
            api, namespace=namespace, name="shoal", identity=name, timing=FAST, clock=clock
        )

    async def until_seen(self, lease: Json) -> None:
        version = lease["metadata"]["resourceVersion"]

        def is_seen() -> bool:
            seen = self.leadership._election.seen
            return seen is not None and seen.version == version

        await eventually(is_seen, "the lease to be read")

    async def run(self) -> None:
        await self.leadership.run(self._work)

    async def _work(self) -> None:
        self.works = True
        try:
            await asyncio.Event().wait()
        finally:
            self.works = False


@contextlib.asynccontextmanager
async def never_two(candidates: Sequence[Candidate]) -> AsyncIterator[None]:
    """Fails when two lead at the same time, at any time within."""
    together: list[list[str]] = []

    async def look() -> None:
        while True:
            leaders = [each.name for each in candidates if each.leadership.leads()]
            if len(leaders) > 1:
                together.append(leaders)
            await asyncio.sleep(LOOK_S)

    async with running(look()):
        yield
    assert together == []


def leader_of(candidates: Sequence[Candidate]) -> Candidate | None:
    return next((each for each in candidates if each.works and each.leadership.leads()), None)


async def test_one_of_three_leads_and_the_next_when_it_ends(
    shoal_api: ShoalApi, namespace: str
) -> None:
    candidates = [Candidate(shoal_api, namespace, name) for name in "abc"]
    async with never_two(candidates):
        tasks = {each.name: asyncio.create_task(each.run()) for each in candidates}
        led = []
        while tasks:
            leader = await eventually(lambda: leader_of(candidates), "a leader")
            led.append(leader.name)
            task = tasks.pop(leader.name)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert not leader.works
    assert sorted(led) == ["a", "b", "c"]


async def test_a_leader_that_says_nothing_more_is_followed(
    api: Api, shoal_api: ShoalApi, namespace: str
) -> None:
    """It was killed, and gave nothing back. What it wrote as a time counts for nothing."""
    await api.create(at("leases", namespace), lease("ghost", year=2100))
    candidate = Candidate(shoal_api, namespace, "a")
    async with running(candidate.run()):
        await eventually(lambda: leader_of([candidate]), "the lease to be taken")
    taken = await api.get(at("leases", namespace, "shoal"))
    assert taken["spec"]["leaseTransitions"] == 1


async def test_a_leader_whose_clock_is_wrong_is_not_followed_while_it_renews(
    api: Api, shoal_api: ShoalApi, namespace: str
) -> None:
    """Its times lie in the past; that it renews is seen all the same."""
    path = at("leases", namespace, "shoal")
    held = await api.create(at("leases", namespace), lease("ghost", year=2001))
    clock = VirtualClock()
    candidate = Candidate(shoal_api, namespace, "a", clock)
    async with running(candidate.run()):
        for second in range(1, 6):
            await candidate.until_seen(held)
            clock.advance(0.9 * FAST.lease_s)
            renewed = lease("ghost", year=2001, second=second)
            held = await api.replace(path, {**renewed, "metadata": held["metadata"]})
        await candidate.until_seen(held)
        assert not candidate.leadership.leads()
        clock.advance(1.1 * FAST.lease_s)
        await eventually(lambda: leader_of([candidate]), "the lease to be taken at last")


async def test_nobody_leads_without_the_server_and_somebody_when_it_is_back(
    control_plane: ControlPlane, shoal_api: ShoalApi, namespace: str
) -> None:
    candidates = [Candidate(shoal_api, namespace, name) for name in "ab"]
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(never_two(candidates))
        for each in candidates:
            await stack.enter_async_context(running(each.run()))
        await eventually(lambda: leader_of(candidates), "a leader")
        control_plane.apiserver.stop()
        try:
            await eventually(lambda: not any(c.works for c in candidates), "the work to end")
        finally:
            control_plane.apiserver.start()
            control_plane.wait_ready()
        await eventually(lambda: leader_of(candidates), "a leader again")


async def test_a_lease_that_somebody_takes_away_is_gone_at_once(
    api: Api, shoal_api: ShoalApi, namespace: str
) -> None:
    candidate = Candidate(shoal_api, namespace, "a")
    path = at("leases", namespace, "shoal")
    async with running(candidate.run()):
        await eventually(lambda: leader_of([candidate]), "a leader")
        await api.merge(path, {"spec": {"holderIdentity": "thief"}})
        await eventually(lambda: not candidate.works, "the work to end")


def lease(holder: str, *, year: int, second: int = 0) -> dict[str, object]:
    when = datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=second)
    text = when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {
        "holderIdentity": holder, "leaseDurationSeconds": FAST.lease_s, "acquireTime": text,
        "renewTime": text, "leaseTransitions": 0,
    }  # fmt: skip
    return {
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "shoal"}, "spec": spec,
    }  # fmt: skip
