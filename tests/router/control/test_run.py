"""A router process from start to end: signals, reload, restart, takeover."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from tests.router.control.talk import PATIENCE_S, Line, ask, eventually, until

PROGRAM = Path(__file__).with_name("router_process.py")
ANY_PORT: dict[str, Any] = {"listen": {"port": 0}, "admin": {"port": 0}}


class Router:
    """One such process."""

    def __init__(self, process: Process, told: dict[str, Any]) -> None:
        self.process = process
        self.told = told
        self.port: int = told.get("port", 0)

    async def admin(self, method: str, path: str) -> Any:
        url = f"http://127.0.0.1:{self.told['admin_port']}{path}"
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
            return (await client.request(method, url)).json()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE_S):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def router(**options: Any) -> AsyncIterator[Router]:
    options.setdefault("overrides", ANY_PORT)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), json.dumps(options), stdout=PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            line = await process.stdout.readline()
        yield Router(process, json.loads(line))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]


def overrides(port: int, **listen: Any) -> dict[str, Any]:
    return {"listen": {"port": port, **listen}, "admin": {"port": 0}}


async def test_sigterm_lets_streams_end() -> None:
    async with router() as found, await Line.open(found.port) as talk:
        assert (found.told["processes"], found.told["endpoints"]) == (1, [])
        assert await talk.say("stream") == "begin"
        found.signal(signal.SIGTERM)
        await refused(found.port)
        assert (await found.admin("GET", "/ready"))["status"] == "draining"
        assert await talk.say("finish") == "end"
        assert await found.ended() == 0


async def test_a_second_signal_ends_it_at_once() -> None:
    async with router() as found, await Line.open(found.port) as talk:
        assert await talk.say("stream") == "begin"
        found.signal(signal.SIGINT)
        await refused(found.port)
        found.signal(signal.SIGINT)
        assert await found.ended() == 0
        assert await cut(talk)


async def test_a_second_signal_ends_what_runs_beside_it() -> None:
    async with router(lingers=True) as found:
        found.signal(signal.SIGINT)
        assert found.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            assert await found.process.stdout.readline() == b"ending\n"
        assert found.process.returncode is None
        found.signal(signal.SIGINT)
        assert await found.ended() == 0


async def test_children_die_with_a_killed_router() -> None:
    async with router() as found, await Line.open(found.port) as talk:
        assert await talk.say("stream") == "begin"
        found.signal(signal.SIGKILL)
        assert await cut(talk)


async def test_reloads_and_restarts(tmp_path: Path) -> None:
    """A reload reaches the processes, a bad one changes nothing; a restart replaces them."""
    file = tmp_path / "router.yaml"

    def write(text: str) -> None:
        """It is watched: nobody is to see half of it."""
        new = tmp_path / "new.yaml"
        new.write_text(text)
        new.replace(file)

    text = "listen: {port: 0}\nadmin: {port: 0}\n"
    write(text)
    async with router(file=str(file), overrides={}, watch=True) as found:

        async def policy() -> str:
            return str((await ask(found.port, "config"))["routing"]["policy"])

        assert await policy() == "cost"
        write(f"{text}routing: {{policy: random}}\n")
        found.signal(signal.SIGHUP)
        await eventually(policy, lambda name: name == "random")
        write(f"{text}routing: {{policy: nonsense}}\n")
        answer = await found.admin("POST", "/admin/reload")
        assert "'nonsense' is not one of" in answer["error"]["message"]
        assert await policy() == "random"
        write("listen: {port: 1}\nadmin: {port: 0}\nrouting: {policy: session}\n")
        # Nobody says so: the file is watched.
        await eventually(policy, lambda name: name == "session")
        assert await found.admin("POST", "/admin/reload") == {
            "changed": False,
            "needs_restart": ["listen.port"],
        }
        before = await ask(found.port, "pid")
        found.signal(signal.SIGUSR2)
        await eventually(lambda: ask(found.port, "pid"), lambda pid: pid not in (None, before))
        assert await policy() == "session"
        assert (await found.admin("POST", "/admin/restart")) == {"replaced": 1}


async def test_another_program_on_the_port_is_told_apart() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, router(overrides=overrides(port)) as found:
        assert "another process uses that port" in found.told["error"]


async def test_a_takeover_loses_nothing() -> None:
    async with (
        router(overrides=overrides(0, processes=3)) as old,
        await Line.open(old.port) as talk,
    ):
        assert await talk.say("stream") == "begin"
        answers: list[Any] = []

        async def load() -> None:
            while not done.is_set():
                answers.append(await ask(old.port, "pid"))
                await asyncio.sleep(0.005)

        done = asyncio.Event()
        clients = [asyncio.create_task(load()) for _ in range(4)]
        admin = {"port": old.told["admin_port"]}
        options = {**overrides(old.port, processes=2), "admin": admin}
        async with router(overrides=options, takeover=True) as new:
            assert new.told["replaced_pid"] == old.process.pid
            assert new.told["admin_port"] == old.told["admin_port"]
            await until(lambda: len(set(answers)) > 3)
            done.set()
            await asyncio.gather(*clients)
            assert None not in answers
            assert old.process.returncode is None  # it has a stream
            assert await talk.say("finish") == "end"
            assert await old.ended() == 0
            pids = {each["pid"] for each in await connections(new)}
            # With three sockets and two processes none is left without one that accepts.
            assert {await ask(new.port, "pid") for _ in range(20)} <= pids


async def connections(found: Router) -> list[dict[str, Any]]:
    answer: dict[str, list[dict[str, Any]]] = await found.admin("GET", "/debug/connections")
    return answer["processes"]


async def test_a_second_router_is_refused_and_a_takeover_that_fails_changes_nothing() -> None:
    async with router() as old:
        options = overrides(old.port)
        async with router(overrides=options) as second:
            assert f"a router serves 127.0.0.1:{old.port} already" in second.told["error"]
            assert "--takeover" in second.told["error"]
        async with router(overrides={**options, "upstream": {"ca": "/none"}}, takeover=True) as new:
            assert "/none" in new.told["error"]
        assert await ask(old.port, "process") == 1
        async with router(overrides=options, takeover=True) as new:
            assert new.told["replaced_pid"] == old.process.pid
            assert await old.ended() == 0


async def test_there_may_be_nothing_to_take_over() -> None:
    async with router(overrides=overrides(1), takeover=True) as found:
        assert "no router of this user serves that address" in found.told["error"]


async def refused(port: int) -> None:
    """Until connections are."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await (await Line.open(port)).close()
            except ConnectionRefusedError:
                return
            except ConnectionResetError:  # it came at the last moment
                continue


async def cut(talk: Line) -> bool:
    """Whether the other end is gone."""
    try:
        return await talk.hear() == ""
    except ConnectionResetError:
        return True
