"""One connection of a load: how answers end, and that only whole ones count."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from shoal.benchmarks.router.http_client import Client
from shoal.benchmarks.router.loads.requests import chat_request
from shoal.benchmarks.router.processes import free_ports

REQUEST = chat_request("m", max_tokens=1, stream=False, headers={})
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
STREAM = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
END = b"0\r\n\r\n"


@asynccontextmanager
async def server(answers: list[bytes], *, hold: bool = False) -> AsyncIterator[int]:
    """Each request gets the next of `answers`; after the last one it closes, unless it holds."""
    left = list(answers)
    talks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while left:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.rpartition(b": ")[2]))
                writer.write(left.pop(0))
                await writer.drain()
            if hold:
                await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as listener:
        yield listener.sockets[0].getsockname()[1]
    await asyncio.wait_for(asyncio.gather(*talks), 10)


async def test_one_connection_serves_one_request_after_another() -> None:
    async with server([WHOLE, STREAM + END, WHOLE]) as port:
        client = Client(port)
        whole = await client.ask(REQUEST, timeout_s=30)
        stream = await client.ask(REQUEST, timeout_s=30)
        assert client.is_open
        last = await client.ask(REQUEST, timeout_s=30)
        client.close()
    assert (whole.ok, whole.body, whole.num_events) == (True, b"ok", 0)
    assert (stream.ok, stream.num_events, len(stream.event_times)) == (True, 1, 1)
    assert last.ok
    assert whole.sent_at < whole.first_at <= whole.ended_at < stream.sent_at


@pytest.mark.parametrize(
    ("sent", "status", "problem"),
    [
        pytest.param(STREAM, 200, "connection closed", id="chunks without an end"),
        pytest.param(WHOLE[:-1], 200, "connection closed", id="body too short"),
        pytest.param(b"", 0, "connection closed", id="nothing"),
        pytest.param(b"nonsense\r\n\r\n", 0, "not HTTP", id="another protocol"),
    ],
)
async def test_an_answer_without_its_end_is_not_complete(
    sent: bytes, status: int, problem: str
) -> None:
    async with server([sent]) as port:
        client = Client(port)
        answer = await client.ask(REQUEST, timeout_s=30)
    assert not answer.complete
    assert answer.status == status
    assert answer.problem is not None
    assert problem in answer.problem
    assert not client.is_open


async def test_an_error_status_is_complete_and_not_ok() -> None:
    async with server([WHOLE.replace(b"200 OK", b"503 Busy")]) as port:
        client = Client(port)
        answer = await client.ask(REQUEST, timeout_s=30)
        client.close()
    assert answer.complete
    assert not answer.ok


async def test_a_silent_server_is_given_up() -> None:
    async with server([b""], hold=True) as port:
        client = Client(port)
        answer = await client.ask(REQUEST, timeout_s=0.05)
    assert answer.problem == "no end of the answer in time"
    assert not client.is_open


async def test_a_closed_port_is_a_problem_and_no_exception() -> None:
    answer = await Client(free_ports(1)[0]).ask(REQUEST, timeout_s=30)
    assert answer.problem is not None
    assert answer.problem.startswith("cannot connect")


async def test_after_connection_close_a_new_one_is_opened() -> None:
    closing = WHOLE.replace(b"content-length", b"connection: close\r\ncontent-length")
    async with server([closing, WHOLE]) as port:
        client = Client(port)
        first = await client.ask(REQUEST, timeout_s=30)
        assert not client.is_open
        second = await client.ask(REQUEST, timeout_s=30)
        client.close()
    assert first.ok
    assert second.ok
