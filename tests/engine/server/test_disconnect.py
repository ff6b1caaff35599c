"""A client that goes away takes its requests with it, at once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from starlette.types import Message

from shoal.engine.server.app import create_app
from shoal.engine.server.settings import ServerSettings
from shoal.web.disconnect import abort_on_disconnect
from tests.engine.server.fake_engine import FakeEngine


class Connection:
    """The two ends that an ASGI server gives an app, in the hands of a test."""

    def __init__(self, body: dict[str, Any]) -> None:
        self._body = json.dumps(body).encode()
        self._sent_body = False
        self.gone = asyncio.Event()
        self.messages: list[Message] = []
        self._sent = asyncio.Event()

    async def receive(self) -> Message:
        if not self._sent_body:
            self._sent_body = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.messages.append(message)
        self._sent.set()

    async def has_sent(self, num_messages: int) -> None:
        async with asyncio.timeout(30):
            while len(self.messages) < num_messages:
                self._sent.clear()
                await self._sent.wait()

    def scope(self) -> dict[str, Any]:
        path = "/v1/completions"
        return {
            "type": "http", "method": "POST", "path": path, "raw_path": path.encode(),
            "query_string": b"", "headers": [], "scheme": "http", "http_version": "1.1",
            "server": ("test", 80), "client": ("test", 1), "root_path": "",
        }  # fmt: skip


async def wait_for_running(engine: FakeEngine, num: int) -> None:
    async with asyncio.timeout(30):
        while len(engine.running) != num:
            engine.changed.clear()
            await engine.changed.wait()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stall_after", [0, 3])
@pytest.mark.parametrize("n", [1, 3])
async def test_disconnect_aborts(
    engine: FakeEngine, stream: bool, stall_after: int, n: int
) -> None:
    engine.stall_after = stall_after
    connection = Connection({"prompt": "hi", "n": n, "stream": stream})
    app = create_app(engine, ServerSettings())
    tasks_before = asyncio.all_tasks()
    serving = asyncio.create_task(app(connection.scope(), connection.receive, connection.send))
    await wait_for_running(engine, n)
    connection.gone.set()
    await asyncio.wait_for(serving, 30)
    assert engine.running == set()
    assert asyncio.all_tasks() == tasks_before
    assert not any(message.get("more_body") is False for message in connection.messages)


@pytest.mark.parametrize("stall_after", [0, 3])
async def test_shutdown_tells_a_stream_why_it_ends(engine: FakeEngine, stall_after: int) -> None:
    engine.stall_after = stall_after
    connection = Connection({"prompt": "hi", "stream": True})
    app = create_app(engine, ServerSettings())
    serving = asyncio.create_task(app(connection.scope(), connection.receive, connection.send))
    await wait_for_running(engine, 1)
    if stall_after:
        await connection.has_sent(1 + stall_after)
    serving.cancel()
    await asyncio.wait_for(serving, 30)
    assert engine.running == set()
    status = connection.messages[0]["status"]
    assert status == (200 if stall_after else 503)
    assert b"shutting down" in connection.messages[-1]["body"]


async def test_body_that_ends_first_is_left_alone() -> None:
    async with abort_on_disconnect(asyncio.Event().wait):  # type: ignore[arg-type]
        await asyncio.sleep(0)


async def test_cancel_from_outside_stays_a_cancel() -> None:
    async def body() -> None:
        async with abort_on_disconnect(asyncio.Event().wait):  # type: ignore[arg-type]
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_real_socket(live_server: Any) -> None:
    """The same through uvicorn: closing the connection ends the engine's request."""
    engine = live_server.engine
    body = {"prompt": "hi", "max_tokens": 90_000, "stream": True}
    with httpx.stream("POST", f"{live_server.url}/v1/completions", json=body) as response:
        chunks = response.iter_raw()  # kept: an iterator that is dropped closes the connection
        next(chunks)
        assert len(engine.running) == 1
    ended = asyncio.run_coroutine_threadsafe(wait_for_running(engine, 0), live_server.loop)
    ended.result(5)
