"""The client of health checks, against a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from shoal.router.fleet import probe as probe_module
from shoal.router.fleet.address import parse_address
from shoal.router.fleet.probe import Answer, Probe, ProbeError

from .builders import Worker, until, worker


@pytest.fixture
async def there() -> AsyncIterator[Worker]:
    async with worker() as made:
        yield made


def client(there: Worker, *, path: str = "", api_key: str | None = None) -> Probe:
    address = parse_address(there.url + path)
    return Probe(address, tls=None, api_key=api_key, on_closed=lambda: None)


async def test_one_connection_for_all_requests(there: Worker) -> None:
    probe = client(there)
    for _ in range(3):
        assert await probe.get("/health", timeout_s=30) == Answer(200, b"")
    assert (await probe.get("/nothing", timeout_s=30)).status == 404
    assert there.num_connections == 1
    probe.close()


async def test_what_is_sent(there: Worker) -> None:
    there.answers["/base/health"] = (200, b"fine")
    probe = client(there, path="/base", api_key="secret")
    assert await probe.get("/health", timeout_s=30) == Answer(200, b"fine")
    path, headers = there.requests[0]
    assert path == "/base/health"
    assert headers["authorization"] == "Bearer secret"
    assert headers["host"] == f"127.0.0.1:{there.port}"
    probe.close()


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", b"ab"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab", b"ab"),
    ],
)
async def test_shapes_of_an_answer(there: Worker, raw: bytes, answer: bytes) -> None:
    there.raw = raw
    probe = client(there)
    assert await probe.get("/health", timeout_s=30) == Answer(200, answer)
    assert await probe.get("/health", timeout_s=30) == Answer(200, answer)
    probe.close()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "within an answer"),
        (
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nab",
            "within an answer",
        ),
        (b"HTTP/1.1 200 OK\r\nContent", "within an answer"),
        (b"", "without an answer"),
    ],
)
async def test_broken_answers(there: Worker, raw: bytes, reason: str) -> None:
    there.raw = raw
    probe = client(there)
    with pytest.raises(ProbeError, match=reason):
        await probe.get("/health", timeout_s=30)
    probe.close()


async def test_silence_ends_in_time_and_the_next_one_begins_anew(there: Worker) -> None:
    there.is_silent = True
    probe = client(there)
    with pytest.raises(ProbeError, match="in time"):
        await probe.get("/health", timeout_s=0.05)
    there.is_silent = False
    assert (await probe.get("/health", timeout_s=30)).status == 200
    assert there.num_connections == 2
    probe.close()


async def test_nobody_there(there: Worker) -> None:
    await there.stop()
    with pytest.raises(ProbeError, match="cannot connect") as caught:
        await client(there).get("/health", timeout_s=30)
    assert caught.value.is_refused


async def test_a_connection_that_the_worker_closed_is_no_failure(there: Worker) -> None:
    closed = asyncio.Event()
    probe = Probe(parse_address(there.url), tls=None, api_key=None, on_closed=closed.set)
    await probe.get("/health", timeout_s=30)
    there.drop_connections()
    await asyncio.wait_for(closed.wait(), 30)
    assert (await probe.get("/health", timeout_s=30)).status == 200
    probe.close()


async def test_our_own_closing_is_not_the_workers(there: Worker) -> None:
    closed = asyncio.Event()
    probe = Probe(parse_address(there.url), tls=None, api_key=None, on_closed=closed.set)
    await probe.get("/health", timeout_s=30)
    probe.close()
    await until(lambda: not there._writers)
    assert not closed.is_set()


async def test_an_endless_answer_is_cut(there: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_module, "MAX_BODY_BYTES", 100)
    there.answers["/metrics"] = (200, b"x" * 101)
    probe = client(there)
    with pytest.raises(ProbeError, match="more than 100 bytes"):
        await probe.get("/metrics", timeout_s=30)
    probe.close()


async def test_a_request_that_is_cancelled_closes_its_connection(there: Worker) -> None:
    there.is_silent = True
    probe = client(there)
    asking = asyncio.create_task(probe.get("/health", timeout_s=60))
    await until(lambda: there.requests)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until(lambda: not there._writers)
