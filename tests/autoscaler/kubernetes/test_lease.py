from __future__ import annotations

import asyncio

import pytest

from shoal.autoscaler.kubernetes import lease as lease_module
from shoal.autoscaler.kubernetes.api import Api
from shoal.autoscaler.kubernetes.election import Timing
from shoal.autoscaler.kubernetes.lease import BootClock, Leadership
from shoal.clock import VirtualClock
from tests.autoscaler.kubernetes.fake_api import FakeApi
from tests.autoscaler.kubernetes.waiting import running, until

LEASES = "apis/coordination.k8s.io/v1/leases"
FAST = Timing(lease_s=15, renew_deadline_s=10.0, retry_s=0.02)


class Work:
    """What a leader does: it says so while it does it."""

    def __init__(self) -> None:
        self.is_running = False
        self.num_starts = 0

    async def __call__(self) -> None:
        self.is_running = True
        self.num_starts += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.is_running = False


def leadership(api: Api, identity: str, clock: VirtualClock) -> Leadership:
    return Leadership(
        api, namespace="llm", name="shoal", identity=identity, timing=FAST, clock=clock
    )


def holder(server: FakeApi) -> str:
    return str(server.get(LEASES, "shoal")["spec"]["holderIdentity"])


async def test_one_leads_and_hands_over_at_once_when_it_stops(server: FakeApi, api: Api) -> None:
    clock, first, second = VirtualClock(), Work(), Work()
    a, b = leadership(api, "a", clock), leadership(api, "b", clock)
    async with running(a.run(first)):
        await until(lambda: first.is_running)
        async with running(b.run(second)):
            await until(lambda: server.num("GET", "/shoal") > 4)
            assert not second.is_running
            assert not b.leads()
    assert not first.is_running
    assert not a.leads()
    assert holder(server) == ""  # given back
    async with running(b.run(second)):
        await until(lambda: second.is_running)
        assert holder(server) == "b"
    spec = server.get(LEASES, "shoal")["spec"]
    assert spec["leaseTransitions"] == 1


async def test_who_cannot_renew_ends_its_work_before_another_begins(
    server: FakeApi, api: Api
) -> None:
    clock, first, second = VirtualClock(), Work(), Work()
    a, b = leadership(api, "a", clock), leadership(api, "b", clock)
    async with running(a.run(first)):
        await until(lambda: first.is_running)
        async with running(b.run(second)):
            await until(lambda: server.num("GET", "/shoal") > 4)
            server.answers["PUT", "/shoal"] = [500] * 100_000
            clock.advance(11.0)
            assert not a.leads()
            await until(lambda: not first.is_running)
            assert not second.is_running
            clock.advance(5.0)
            server.answers.clear()
            await until(lambda: first.is_running != second.is_running)
            assert a.leads() != b.leads()


async def test_a_lease_that_was_stolen_ends_the_work(server: FakeApi, api: Api) -> None:
    clock, work = VirtualClock(), Work()
    async with running(leadership(api, "a", clock).run(work)):
        await until(lambda: work.is_running)
        while work.is_running:  # it renews meanwhile: ours may be overwritten once or twice
            lease = server.get(LEASES, "shoal")
            stolen = {**lease, "spec": {**lease["spec"], "holderIdentity": "thief"}}
            await server.put(LEASES, stolen)
            await asyncio.sleep(0.01)
    assert holder(server) == "thief"  # and is not given back by us


async def test_an_error_of_the_work_is_raised_and_the_lease_given_back(
    server: FakeApi, api: Api
) -> None:
    async def fails() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await leadership(api, "a", VirtualClock()).run(fails)
    assert holder(server) == ""


async def test_times_written_in_the_lease_are_for_people_alone(
    server: FakeApi, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that jumps by a year makes nobody a leader, and nobody's lease end."""
    clock, first, second = VirtualClock(), Work(), Work()
    monkeypatch.setattr(lease_module, "_micro_time", lambda: "2031-01-01T00:00:00.000000Z")
    async with running(leadership(api, "a", clock).run(first)):
        await until(lambda: first.is_running)
        monkeypatch.setattr(lease_module, "_micro_time", lambda: "2001-01-01T00:00:00.000000Z")
        async with running(leadership(api, "b", clock).run(second)):
            await until(lambda: server.num("GET", "/shoal") > 8)
            assert first.is_running
            assert not second.is_running


def test_the_clock_counts_suspensions() -> None:
    clock = BootClock()
    assert clock.now() <= clock.now()
