"""The state process in this process: a real fleet, and stand-ins for data-plane processes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shoal.clock import MonotonicClock
from shoal.errors import InvalidRequest, NotFound
from shoal.router.control import listeners
from shoal.router.control.load import Source, load
from shoal.router.control.state import State
from tests.router.control.conftest import FAKE_PROXY, FAST
from tests.router.control.talk import Line, ask, eventually, until

NOBODY = "http://127.0.0.1:9"


class Running:
    def __init__(self, state: State, port: int) -> None:
        self.state = state
        self.port = port

    async def connections_counted(self) -> float:
        text = await self.state.metrics()
        [line] = [
            line for line in text.splitlines() if line.startswith("shoal_router_connections_total")
        ]
        return float(line.split()[-1])


@contextlib.asynccontextmanager
async def running(processes: int, *workers: str) -> AsyncIterator[Running]:
    source = Source(
        overrides={
            "listen": {"port": 0, "processes": processes},
            "discovery": {"static": [{"url": url} for url in workers]},
        }
    )
    sockets = listeners.bind("127.0.0.1", 0, processes)
    state = State(
        source, load(source), listeners.shared_out(sockets, processes),
        clock=MonotonicClock(), command=FAKE_PROXY, timing=FAST,
    )  # fmt: skip
    task = asyncio.create_task(state.run())
    try:
        await state.start()
        yield Running(state, sockets[0].getsockname()[1])
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        listeners.close(sockets)


async def test_processes_hear_of_each_other_and_of_a_death() -> None:
    async with running(2, NOBODY) as found, await Line.open(found.port) as teller:
        number = int(await teller.say("process"))
        demand = asyncio.create_task(found.state.wait_held("cold", 10))
        assert await found.state.wait_held("cold", 0) == {}
        await teller.say(f'tell {{"in_flight": {{"{NOBODY}": 5}}, "held": {{"cold": 2}}}}')
        assert await demand == {"cold": 2}
        assert await found.state.wait_held("cold", 10) == {"cold": 2}

        def in_flight() -> int:
            return int(found.state.endpoints()[0]["in_flight"])

        await until(lambda: in_flight() == 5)
        assert found.state.held() == {"cold": 2}
        await teller.say("crash")
        await until(lambda: in_flight() == 0)
        assert found.state.held() == {}
        heard: list[Any] = []
        while not heard:
            async with await Line.open(found.port) as other:
                if int(await other.say("process")) == 3 - number:
                    heard = [await other.say("heard")]
        # What it had, and that it has it no more; with its number.
        assert f'"in_flight":{{"{NOBODY}":5}}' in heard[0]
        assert f'"in_flight":{{"{NOBODY}":0}}' in heard[0]
        assert f'"process":{number}' in heard[0]


async def test_counters_never_go_down() -> None:
    async with running(1) as found:
        for _ in range(3):
            await ask(found.port, "pid")
        assert await found.connections_counted() == 3
        await ask(found.port, "pid")
        await found.state.restart()
        await until(lambda: len(found.state.children.pids()) == 1)
        assert await found.connections_counted() == 4  # its last words
        await ask(found.port, "crash")
        await until(lambda: found.state.num_ready == 1)
        await ask(found.port, "pid")
        assert await found.connections_counted() == 5  # the crash itself is lost


async def test_decisions_and_connections_of_all_processes() -> None:
    async with running(2) as found:
        decisions = await found.state.decisions(4)
        assert [(each["ts"], each["process"]) for each in decisions] == [
            (32.0, 2), (31.0, 1), (22.0, 2), (21.0, 1),
        ]  # fmt: skip
        connections = await found.state.connections()
        pids = found.state.children.pids()
        assert [(each["process"], each["pid"]) for each in connections] == sorted(pids.items())


async def test_endpoints_come_and_go_by_hand() -> None:
    async with running(1) as found:
        await found.state.fleet_settled(5.0)
        endpoint_id = found.state.add_endpoint(b'{"url": "%b", "models": ["m"]}' % NOBODY.encode())
        assert [each["url"] for each in found.state.endpoints()] == [NOBODY]
        assert [each["source"] for each in found.state.endpoints()] != ["static"]

        async def told() -> Any:
            return await ask(found.port, "fleet")

        await eventually(told, bool)
        found.state.fleet.remove(endpoint_id)
        await eventually(told, lambda fleet: not fleet)


@pytest.mark.parametrize(
    "body", [b"{", b"{}", b'{"url": "ftp://a"}', b'{"url": "http://a", "x": 1}']
)
async def test_what_is_no_endpoint_is_refused(body: bytes) -> None:
    source = Source()
    state = State(source, load(source), [], clock=MonotonicClock(), command=FAKE_PROXY)
    with pytest.raises(InvalidRequest):
        state.add_endpoint(body)
    with pytest.raises(NotFound):
        state.fleet.drain("nobody")
