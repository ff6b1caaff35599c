"""Real processes without a model, and a router that is a stand-in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from shoal.autoscaler.core.decision import Decision
from shoal.autoscaler.local.endpoints import EndpointsUnavailable
from shoal.autoscaler.local.lifecycle import Timing, WorkerState
from shoal.autoscaler.local.process import Launch
from shoal.autoscaler.local.spare import Spare
from shoal.autoscaler.local.supervisor import Supervisor, Worker
from shoal.autoscaler.local.target import LocalTarget
from shoal.autoscaler.local.view import workers_view
from shoal.clock import VirtualClock
from shoal.errors import ScaleFailed

PROGRAM = Path(__file__).with_name("worker_program.py")
FAST = Timing(grace_s=5.0, drain_timeout_s=30.0, first_delay_s=0.05, max_delay_s=0.2)
PATIENCE_S = 20.0
S = WorkerState
NOTHING = Decision(desired={}, valid=True, reasons=(), explain={})


class FakeEndpoints:
    """A router's list: what is removed stays listed while it is busy."""

    def __init__(self) -> None:
        self.urls: dict[str, str] = {}
        """URL by id."""
        self.leaving: set[str] = set()
        self.busy: set[str] = set()
        self.unhealthy: set[str] = set()
        self.is_down = False
        self.told: list[tuple[str, str]] = []

    def _heard(self, what: str, of: str) -> None:
        if self.is_down:
            raise EndpointsUnavailable("down")
        self.told.append((what, of))

    async def add(self, url: str, name: str) -> str:
        self._heard("add", name)
        self.urls[name] = url
        self.leaving.discard(name)
        return name

    async def remove(self, endpoint_id: str) -> None:
        self._heard("remove", endpoint_id)
        self.leaving.add(endpoint_id)

    async def listed(self) -> dict[str, str]:
        self._heard("look", "")
        for name in self.leaving - self.busy:
            self.urls.pop(name, None)
        return {name: "unhealthy" if name in self.unhealthy else "ready" for name in self.urls}


class Running:
    """A supervisor with its task, and what it told."""

    def __init__(self, supervisor: Supervisor, endpoints: FakeEndpoints) -> None:
        self.supervisor = supervisor
        self.endpoints = endpoints
        self.changes: list[tuple[str, str]] = []
        self.lines: list[str] = []
        self.task: asyncio.Task[None]

    def states(self) -> list[str]:
        return [w.life.state.value for w in self.supervisor.workers.values()]

    def worker(self, slot: int = 0) -> Worker:
        return self.supervisor.workers[slot]

    def pid(self, slot: int = 0) -> int:
        process = self.worker(slot).process
        assert process is not None
        return process.pid

    async def until(self, look: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not look():  # noqa: ASYNC110 - processes set no Event
                await asyncio.sleep(0.005)

    async def has(self, *states: WorkerState) -> None:
        await self.until(lambda: self.states() == [state.value for state in states])

    async def end(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            async with asyncio.timeout(PATIENCE_S):
                await self.task


@contextlib.asynccontextmanager
async def running(
    *modes: str,
    num_slots: int = 3,
    timing: Timing = FAST,
    desired: int = 0,
    keeps_spare: bool = False,
) -> AsyncIterator[Running]:
    """Each launch is of the next mode; the last one goes on."""
    left = list(modes or ["serve"])
    ports = iter(range(1000, 2000))

    def launch(slot: int) -> Launch:
        mode = left.pop(0) if len(left) > 1 else left[0]
        order: dict[str, Any] = {"mode": mode, "port": next(ports), "log": f"slot {slot}"}
        return Launch(
            command=(sys.executable, str(PROGRAM)),
            order=json.dumps(order).encode(),
        )

    endpoints = FakeEndpoints()
    supervisor = Supervisor(
        launch,
        endpoints,
        num_slots=num_slots,
        timing=timing,
        on_change=lambda worker, before: found.changes.append((before, worker.life.state)),
        on_line=lambda worker, line: found.lines.append(f"{worker.name}: {line}"),
        keeps_spare=keeps_spare,
    )
    found = Running(supervisor, endpoints)
    found.task = asyncio.create_task(supervisor.run())
    supervisor.want(desired)
    try:
        yield found
    finally:
        await found.end()


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_up_and_down() -> None:
    async with running(desired=2) as found:
        await found.has(S.READY, S.READY)
        await found.until(lambda: len(found.endpoints.urls) == 2)
        assert found.endpoints.urls == {
            "worker-0": "http://127.0.0.1:1000", "worker-1": "http://127.0.0.1:1001",
        }  # fmt: skip
        assert sorted(found.lines) == ["worker-0: slot 0", "worker-1: slot 1"]
        pids = [found.pid(0), found.pid(1)]
        found.endpoints.busy = {"worker-1"}
        found.supervisor.want(0)
        assert found.states() == ["draining", "draining"]
        await found.until(lambda: 0 not in found.supervisor.workers)
        assert is_gone(pids[0])
        assert found.worker(1).life.state is S.DRAINING  # it has a request
        assert not is_gone(pids[1])
        found.endpoints.busy = set()
        await found.has()
        assert is_gone(pids[1])
    assert found.changes.count((S.DRAINING, S.STOPPING)) == 2
    assert found.changes.count((S.STOPPING, S.STOPPED)) == 2


async def test_one_that_drains_is_taken_back() -> None:
    async with running(desired=1) as found:
        await found.until(lambda: bool(found.endpoints.urls))
        pid = found.pid()
        found.endpoints.busy = {"worker-0"}
        found.supervisor.want(0)
        await found.until(lambda: ("remove", "worker-0") in found.endpoints.told)
        found.supervisor.want(1)
        assert found.states() == ["ready"]
        await found.until(lambda: found.endpoints.told.count(("add", "worker-0")) == 2)
        assert found.pid() == pid
        assert not found.endpoints.leaving


async def test_a_drain_that_takes_too_long_is_cut_and_a_stubborn_worker_killed() -> None:
    timing = Timing(drain_timeout_s=0.1, grace_s=0.1)
    async with running("stubborn", desired=1, timing=timing) as found:
        await found.until(lambda: bool(found.endpoints.urls))
        pid = found.pid()
        found.endpoints.busy = {"worker-0"}
        found.supervisor.want(0)
        await found.has()
        assert is_gone(pid)


async def test_a_killed_worker_is_started_again() -> None:
    async with running(desired=1) as found:
        await found.until(lambda: bool(found.endpoints.urls))
        [view] = workers_view(found.supervisor).workers
        assert (view.name, view.state, view.pid) == ("worker-0", "ready", found.pid())
        assert (view.url, view.next_start_in_s) == ("http://127.0.0.1:1000", None)
        os.kill(found.pid(), signal.SIGKILL)
        await found.has(S.BACKING_OFF)
        [view] = workers_view(found.supervisor).workers
        assert view.why == found.worker().why == "signal SIGKILL: slot 0"
        assert (view.state, view.pid, view.url) == ("backing_off", None, None)
        assert view.next_start_in_s is not None
        await found.until(lambda: found.endpoints.urls.get("worker-0", "").endswith("1001"))
        assert (found.worker().num_restarts, found.worker().life.num_failures) == (1, 1)
        assert [what for what, of in found.endpoints.told if of] == ["add", "remove", "add"]


async def test_one_that_hangs_is_killed_and_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shoal.autoscaler.local.supervisor.HEALTH_S", 0.01)
    timing = Timing(hung_after_s=0.05, first_delay_s=0.01)
    async with running(desired=1, timing=timing) as found:
        await found.until(lambda: bool(found.endpoints.urls))
        pid = found.pid()
        found.endpoints.unhealthy = {"worker-0"}
        await found.until(lambda: is_gone(pid))
        found.endpoints.unhealthy = set()
        await found.until(lambda: (S.BACKING_OFF, S.STARTING) in found.changes)
        await found.has(S.READY)
        assert "it was unhealthy for 0 s; signal SIGKILL" in found.worker().why


async def test_one_that_never_starts_is_tried_less_and_less_and_says_why() -> None:
    timing = Timing(first_delay_s=0.01, max_delay_s=60.0)
    async with running("fail", desired=1, timing=timing) as found:
        await found.until(
            lambda: (0 in found.supervisor.workers) and found.worker().num_restarts > 2
        )
        await found.has(S.BACKING_OFF)
        assert found.worker().why == "exit status 1: slot 0 | no such model"
        replicas = await LocalTarget(found.supervisor).replicas()
        assert (replicas.ready, replicas.pending, replicas.unschedulable) == (0, 1, 1)
        found.supervisor.want(0)
        assert found.states() == []
    assert found.endpoints.told == []


@pytest.mark.parametrize("mode", ["hang", "mute"])
async def test_a_start_that_hangs_is_a_failure(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal.autoscaler.local.supervisor.LAST_WORDS_S", 0.1)
    timing = Timing(start_timeout_s=0.5, first_delay_s=30.0, max_delay_s=60.0)
    async with running(mode, desired=1, timing=timing) as found:
        await found.has(S.BACKING_OFF)
        assert "SIGKILL" in found.worker().why


async def test_a_program_that_is_not_there() -> None:
    endpoints = FakeEndpoints()
    supervisor = Supervisor(
        lambda slot: Launch(command=("/no/such/program",), order=b""), endpoints,
        num_slots=1, timing=Timing(first_delay_s=30.0),
    )  # fmt: skip
    found = Running(supervisor, endpoints)
    found.task = asyncio.create_task(supervisor.run())
    supervisor.want(1)
    await found.has(S.BACKING_OFF)
    assert "could not be started" in found.worker().why
    await found.end()


async def test_given_up_while_it_starts() -> None:
    async with running("hang", desired=1) as found:
        await found.until(lambda: bool(found.lines))
        pid = found.pid()
        found.supervisor.want(0)
        await found.has()
        assert is_gone(pid)
        found.supervisor.want(1)
        found.supervisor.want(0)  # before there is a process
        await found.has()
    assert found.endpoints.told == []


async def test_a_router_that_does_not_answer_is_told_later() -> None:
    async with running() as found:
        found.endpoints.is_down = True
        found.supervisor.want(1)
        await found.has(S.READY)
        found.endpoints.is_down = False
        await found.until(lambda: "worker-0" in found.endpoints.urls)
        found.endpoints.is_down = True
        found.supervisor.want(0)
        found.endpoints.is_down = False
        await found.has()
        assert found.endpoints.urls == {}


async def test_the_end_is_in_order_and_at_once_when_asked_twice() -> None:
    async with running(desired=2) as found:
        await found.has(S.READY, S.READY)
        pids = [found.pid(0), found.pid(1)]
        await found.end()
        assert all(map(is_gone, pids))
        assert (S.READY, S.STOPPING) in found.changes  # nobody is asked to drain: all is drained
    timing = Timing(grace_s=60.0)
    async with running("stubborn", desired=1, timing=timing) as found:
        await found.has(S.READY)
        pid = found.pid()
        found.task.cancel()
        await found.has(S.STOPPING)
        await found.end()
        assert is_gone(pid)


def children() -> set[int]:
    task = Path(f"/proc/self/task/{os.getpid()}/children")
    return set(map(int, task.read_text(encoding="ascii").split()))


async def test_a_process_waits_for_the_next_start() -> None:
    before = children()
    async with running(num_slots=2, keeps_spare=True) as found:
        supervisor = found.supervisor
        await found.until(lambda: supervisor.spare_pid is not None)
        spare = supervisor.spare_pid
        assert (found.states(), found.lines) == ([], [])
        supervisor.want(1)
        await found.has(S.READY)
        assert found.pid() == spare
        await found.until(lambda: found.lines == ["worker-0: slot 0"])  # by its order
        await found.until(lambda: supervisor.spare_pid is not None)  # the next one
        supervisor.want(2)
        await found.has(S.READY, S.READY)
        assert children() - before == {found.pid(0), found.pid(1)}  # there is no next start
        supervisor.want(1)
        await found.until(lambda: supervisor.spare_pid is not None)
        # One that has died is not given an order.
        assert supervisor.spare_pid is not None
        os.kill(supervisor.spare_pid, signal.SIGKILL)
        await found.until(lambda: supervisor.spare_pid is None)
        supervisor.want(2)
        await found.has(S.READY, S.READY)
    await found.until(lambda: children() == before)


async def test_a_spare_suits_its_environment_alone() -> None:
    launches = [
        Launch(command=("sleep", "60"), order=b"", environment={"GPU": gpu}) for gpu in "01"
    ]
    clock = VirtualClock()
    spare = Spare(clock)
    await spare.keep(launches[0])
    assert spare.take(launches[1]) is None
    process = spare.take(launches[0])
    assert process is not None
    assert spare.take(launches[0]) is None
    process.kill()
    await process.wait_ended()
    # One that cannot be had is tried again, but not at once.
    await spare.keep(Launch(command=("/no/such/program",), order=b""))
    await spare.keep(launches[0])
    assert spare.take(launches[0]) is None
    clock.advance(60)
    await spare.keep(launches[0])
    process = spare.take(launches[0])
    assert process is not None
    process.kill()
    await process.wait_ended()
    spare.close()


async def test_as_a_target() -> None:
    async with running(num_slots=2) as found:
        target = LocalTarget(found.supervisor)
        await target.scale(2, NOTHING)
        await found.has(S.READY, S.READY)
        replicas = await target.replicas()
        assert (replicas.desired, replicas.ready, replicas.pending) == (2, 2, 0)
        assert len(replicas.start_up_s) == 2
        assert all(seconds > 0 for seconds in replicas.start_up_s)
        assert (await target.replicas()).start_up_s == ()  # told once
        with pytest.raises(ScaleFailed, match="between 0 and 2"):
            await target.scale(3, NOTHING)
        found.endpoints.busy = {"worker-0", "worker-1"}
        await target.scale(1, NOTHING)
        replicas = await target.replicas()
        assert (replicas.desired, replicas.ready, replicas.draining) == (1, 1, 1)
