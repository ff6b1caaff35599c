"""The data-plane processes, with a stand-in for the program."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from shoal.errors import EngineUnavailable
from shoal.router.control import listeners
from shoal.router.control.children import ChildFailed, Children
from shoal.router.messages import Configure, FleetUpdate, FromState, PeerDelta
from shoal.router.settings.config import RouterConfig
from tests.router.control.conftest import FAKE_PROXY, FAST
from tests.router.control.talk import Line, ask, eventually, until


class Family:
    """Children, and what they said."""

    def __init__(self, processes: int, *, sockets: int | None = None, timing: Any = FAST) -> None:
        self.sockets = listeners.bind("127.0.0.1", 0, sockets or processes)
        self.port: int = self.sockets[0].getsockname()[1]
        self.deltas: list[tuple[int, PeerDelta]] = []
        self.metrics: list[tuple[int, Any]] = []
        self.ended: list[int] = []
        self.children = Children(
            FAKE_PROXY,
            listeners.shared_out(self.sockets, processes),
            greet=self.greet,
            on_delta=lambda number, delta: self.deltas.append((number, delta)),
            on_metrics=lambda number, body: self.metrics.append((number, body)),
            on_end=self.ended.append,
            timing=timing,
        )

    def greet(self, number: int) -> Iterator[FromState]:
        yield Configure(config=RouterConfig(), keys=b"keys")
        yield FleetUpdate([])
        yield PeerDelta(process=99, in_flight={"a": number})

    async def reached(self) -> set[int]:
        """Pids that accept now, over enough connections to meet them all."""
        found = await asyncio.gather(*(ask(self.port, "pid") for _ in range(30)))
        return {pid for pid in found if pid is not None}


@contextlib.asynccontextmanager
async def family(processes: int, **options: Any) -> AsyncIterator[Family]:
    self = Family(processes, **options)
    running = asyncio.create_task(self.children.run())
    try:
        await self.children.start()
        yield self
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        listeners.close(self.sockets)
        assert not self.children.pids()


async def test_each_accepts_and_was_greeted() -> None:
    async with family(2) as found:
        assert found.children.num_ready == 2
        assert await found.reached() == set(found.children.pids().values())
        assert await ask(found.port, "keys") == "keys"
        number = await ask(found.port, "process")
        assert number in (1, 2)
        [heard] = await ask(found.port, "heard")
        assert heard["in_flight"]["a"] in (1, 2)


async def test_one_process_serves_the_sockets_of_several() -> None:
    async with family(1, sockets=3) as found:
        assert len(await found.reached()) == 1


async def test_a_crashed_one_is_started_again_and_who_connects_meanwhile_waits() -> None:
    async with family(1) as found:
        before = await ask(found.port, "pid")
        assert await ask(found.port, "crash") is None
        # Not refused: the listening socket was open all the time.
        after = await ask(found.port, "pid")
        assert after not in (None, before)
        assert found.ended == [1]
        assert await ask(found.port, "process") == 2


IMPATIENT = replace(FAST, stalled_s=0.5)


async def test_a_hung_one_is_replaced() -> None:
    async with family(1, timing=IMPATIENT) as found:
        before = found.children.pids()[1]
        hanging = asyncio.create_task(ask(found.port, "hang"))
        await until(lambda: found.ended)
        assert await ask(found.port, "pid") != before
        assert await hanging is None


async def test_a_stopped_one_is_replaced() -> None:
    async with family(1, timing=IMPATIENT) as found:
        os.kill(found.children.pids()[1], signal.SIGSTOP)
        await until(lambda: found.ended)
        assert found.ended[0] == 1
        await eventually(lambda: ask(found.port, "process"), lambda number: number and number > 1)


async def test_what_one_tells_and_what_is_told_to_the_others() -> None:
    async with family(2) as found, await Line.open(found.port) as talk:
        teller = int(await talk.say("process"))
        assert await talk.say('tell {"in_flight": {"a": 5}}') == '"ok"'
        number, delta = await until(lambda: found.deltas and found.deltas[0])
        assert (number, delta.in_flight) == (teller, {"a": 5})
        found.children.broadcast(delta, but=teller)
        assert '"a":5' in await heard_by(found, 3 - teller)
        assert '"a":5' not in await talk.say("heard")


async def heard_by(found: Family, number: int) -> str:
    while True:
        async with await Line.open(found.port) as line:
            if int(await line.say("process")) == number:
                return await line.say("heard")


async def test_reports_are_collected_and_a_hung_one_is_left_out() -> None:
    async with family(2) as found:
        reports = await found.children.ask_all("decisions")
        assert {number: len(body) for number, body in reports.items()} == {1: 3, 2: 3}
        os.kill(found.children.pids()[1], signal.SIGSTOP)
        assert set(await found.children.ask_all("decisions", timeout_s=1.0)) == {2}


async def test_a_restart_replaces_each_and_streams_go_on() -> None:
    async with family(2) as found, await Line.open(found.port) as talk:
        before = found.children.pids()
        assert await talk.say("stream") == "begin"
        assert await found.children.restart(30.0) == 2
        # The old ones stop when they have read that they should: in a moment.
        await eventually(found.reached, lambda pids: not pids & set(before.values()))
        assert await talk.say("finish") == "end"
        await until(lambda: sorted(found.ended) == [1, 2])
        assert sorted(number for number, _ in found.metrics) == [1, 2]  # last words


async def test_no_connection_is_lost_by_restarts() -> None:
    async with family(2) as found:
        answers: list[Any] = []

        async def load() -> None:
            while not done.is_set():
                answers.append(await ask(found.port, "process"))
                await asyncio.sleep(0.005)

        done = asyncio.Event()
        clients = [asyncio.create_task(load()) for _ in range(8)]
        await found.children.restart(30.0)
        done.set()
        await asyncio.gather(*clients)
        assert None not in answers
        assert {1, 2} & set(answers)
        assert {3, 4} & set(answers)


async def test_a_replaced_one_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISBEHAVE", "never drains")
    async with family(1) as found:
        await found.children.restart(0.1)
        await until(lambda: found.ended == [1])
        assert await ask(found.port, "process") == 2


async def test_when_the_new_one_does_not_start_the_old_one_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with family(1) as found:
        monkeypatch.setenv("MISBEHAVE", "crash at start")
        with pytest.raises(EngineUnavailable, match=r"exit status 7.*goes on"):
            await found.children.restart(30.0)
        assert await ask(found.port, "process") == 1


async def test_one_restart_at_a_time() -> None:
    async with family(1) as found:
        first = asyncio.create_task(found.children.restart(30.0))
        await asyncio.sleep(0)
        with pytest.raises(EngineUnavailable, match="already"):
            await found.children.restart(30.0)
        assert await first == 1


async def test_a_start_that_fails_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISBEHAVE", "crash at start")
    with pytest.raises(ChildFailed, match="did not start: exit status 7"):
        async with family(2):
            raise AssertionError("it started")


async def test_one_that_never_gets_ready_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISBEHAVE", "never ready")
    with pytest.raises(ChildFailed, match=r"not ready after 0\.2 s"):
        async with family(1, timing=replace(FAST, ready_s=0.2)):
            raise AssertionError("it started")


async def test_crashes_at_start_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with family(1) as found:
        monkeypatch.setenv("MISBEHAVE", "crash at start")
        os.kill(found.children.pids()[1], signal.SIGKILL)
        await until(lambda: len(found.ended) >= 3)
        monkeypatch.delenv("MISBEHAVE")
        assert await ask(found.port, "process") > 3


async def test_a_drain_lets_streams_end() -> None:
    async with family(2) as found, await Line.open(found.port) as talk:
        assert await talk.say("stream") == "begin"
        listeners.close(found.sockets)
        draining = asyncio.create_task(found.children.drain(30.0))
        await until(lambda: len(found.ended) == 1)  # the one without a stream
        assert not draining.done()
        assert await talk.say("finish") == "end"
        await draining
        assert not found.children.pids()
        with pytest.raises(ConnectionRefusedError):
            await Line.open(found.port)


async def test_a_process_ends_with_its_link() -> None:
    async with family(1) as found:
        pid = found.children.pids()[1]
        child = found.children._live[1]
        child._transport.close()
        await until(lambda: found.ended)
        assert pid not in found.children.pids().values()
