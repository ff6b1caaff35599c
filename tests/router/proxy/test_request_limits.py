"""Bounds of a request and of a connection: sizes, counts and times."""

from __future__ import annotations

import pytest

from shoal.router.settings.listen import BoundsConfig
from tests.router.proxy.conftest import RunRouter, RunWorker
from tests.router.proxy.raw_client import get, post, until
from tests.router.proxy.raw_worker import WorkerConnection

SMALL = BoundsConfig(max_header_bytes=2000, max_body_bytes=5000)
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: router\r\n"


def padded(num_bytes: int) -> bytes:
    """A sound body of that length."""
    body = b'{"model":"m","prompt":""}'
    return body[:-2] + b"x" * (num_bytes - len(body)) + body[-2:]


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"X-Long: " + b"a" * 2000 + b"\r\n\r\n",
        HEAD + b"X-Long: " + b"a" * 300_000,
        HEAD + b"X-%b: y\r\n\r\n" % (b"a" * 2000),
        HEAD + b"X-Many: 12345678\r\n" * 120 + b"\r\n",
        HEAD + b"A: b\r\n" * 129 + b"\r\n",
        HEAD + b"Host: " + b"a" * 300_000,
        b"GET /" + b"a" * 2001 + b" HTTP/1.1\r\nHost: router\r\n\r\n",
        b"GET /v1/models?" + b"a" * 300_000,
        get("/health") + HEAD + b"X-Long: " + b"a" * 3000 + b"\r\n\r\n",
    ],
    ids=lambda head: f"{head[:60]!r}, {len(head)} bytes",
)
@pytest.mark.parametrize("piece_bytes", [None, 1000])
async def test_a_head_over_the_limit(
    head: bytes, piece_bytes: int | None, run_router: RunRouter
) -> None:
    router = await run_router(bounds=SMALL)
    client = await router.client()
    if piece_bytes is None:
        client.send(head)
    else:
        await until(lambda: router.gateway.connections)
        connection = router.connection
        for start in range(0, len(head), piece_bytes):
            connection.data_received(head[start : start + piece_bytes])
    if head.startswith(b"GET /health"):
        assert (await client.answer()).status == 200
    got = await client.answer()
    assert got.status == 431
    assert got.error["code"] == "headers_too_large"
    assert got.value(b"connection") == b"close"
    assert await client.ended()


async def test_heads_up_to_the_limit_pass(run_worker: RunWorker, run_router: RunRouter) -> None:
    worker = await run_worker()
    router = await run_router(worker, bounds=SMALL)
    client = await router.client()
    value = b"a" * 1500
    both = post(padded(4900), fields=b"X-Long: %b\r\n" % value) * 2
    client.send(both)  # one read holds far more bytes than a head may have
    for _ in range(2):
        assert (await client.answer()).status == 200
    assert [request.value(b"x-long") for request in worker.requests] == [value, value]


@pytest.mark.parametrize(
    "message",
    [
        post(padded(5001)),
        HEAD + b"Content-Length: 5001\r\n\r\n",
        HEAD + b"Expect: 100-continue\r\nContent-Length: 5001\r\n\r\n",
        HEAD
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"1389\r\n"
        + padded(5001)
        + b"\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"400\r\n%b\r\n" % (b"a" * 1024) * 5,
    ],
    ids=["whole", "announced", "waiting for 100", "one chunk", "many chunks"],
)
async def test_a_body_over_the_limit(
    message: bytes, run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker()
    router = await run_router(worker, bounds=SMALL)
    client = await router.client()
    client.send(message)
    raw = await client.read_all()
    assert raw.startswith(b"HTTP/1.1 413 ")  # and no 100 before it
    assert b'"payload_too_large"' in raw
    assert worker.requests == []


async def test_a_body_at_the_limit_passes(run_worker: RunWorker, run_router: RunRouter) -> None:
    worker = await run_worker()
    router = await run_router(worker, bounds=SMALL)
    client = await router.client()
    assert (await client.ask(post(padded(5000)))).status == 200
    assert worker.requests[0].body == padded(5000)


async def test_a_refused_client_that_goes_on_sending_gets_its_answer(
    run_router: RunRouter,
) -> None:
    """Closing at once would reset the connection under the answer."""
    router = await run_router(bounds=SMALL)
    client = await router.client()
    client.send(HEAD + b"Content-Length: 8000000\r\n\r\n")
    await until(lambda: client.reader._buffer)  # type: ignore[attr-defined]
    client.send(b"x" * 8_000_000)
    await client.writer.drain()
    got = await client.answer()
    assert got.status == 413
    client.close()
    await until(lambda: not router.gateway.connections)


async def test_a_refused_client_that_never_closes_is_cut(run_router: RunRouter) -> None:
    router = await run_router(bounds=SMALL)
    client = await router.client()
    client.send(b"nonsense\r\n\r\n")
    assert (await client.answer()).status == 400
    assert len(router.gateway.connections) == 1
    router.pass_time(2.1)
    await until(lambda: not router.gateway.connections)


@pytest.mark.parametrize("sent", [b"P", HEAD, HEAD + b"X: y"])
async def test_a_head_that_takes_too_long(sent: bytes, run_router: RunRouter) -> None:
    router = await run_router(bounds=BoundsConfig(header_timeout_s=10.0))
    client = await router.client()
    client.send(sent)
    await until(lambda: router.gateway.connections and router.connection.reader.request)
    router.pass_time(9.0)
    client.send(b"O" if sent == b"P" else b"Z: 1\r\n")  # a byte now and then buys no time
    await until(lambda: router.connection.reader.head_bytes > len(sent))
    router.pass_time(2.0)
    got = await client.answer()
    assert got.status == 408
    assert got.error["code"] == "request_timeout"
    assert await client.ended()


async def test_a_body_that_takes_too_long(run_router: RunRouter) -> None:
    router = await run_router(bounds=BoundsConfig(header_timeout_s=10.0, body_timeout_s=60.0))
    client = await router.client()
    client.send(HEAD + b"Content-Length: 100\r\n\r\nx")
    await until(lambda: router.gateway.connections and router.connection.reader.body)
    router.pass_time(59.0)
    client.send(b"x")
    await until(lambda: router.connection.reader.body_bytes == 2)
    router.pass_time(2.0)
    assert (await client.answer()).status == 408
    assert await client.ended()


async def test_a_connection_on_which_nothing_comes(run_router: RunRouter) -> None:
    router = await run_router(bounds=BoundsConfig(header_timeout_s=10.0, idle_timeout_s=75.0))
    new, used = await router.client(), await router.client()
    assert (await used.ask(get("/health"))).status == 200
    await until(lambda: len(router.gateway.connections) == 2)
    router.pass_time(9.0)
    assert len(router.gateway.connections) == 2
    router.pass_time(2.0)
    assert await new.ended()
    router.pass_time(63.0)
    assert (await used.ask(get("/health"))).status == 200  # and has 75 s again
    router.pass_time(74.0)
    assert len(router.gateway.connections) == 1
    router.pass_time(2.0)
    assert await used.ended()


async def test_empty_lines_do_not_keep_a_connection(run_router: RunRouter) -> None:
    router = await run_router(bounds=BoundsConfig(idle_timeout_s=75.0))
    client = await router.client()
    assert (await client.ask(get("/health"))).status == 200
    deadline = router.connection.deadline
    client.send(b"\r\n")
    await until(lambda: router.connection.reader.head_bytes == 2)
    assert router.connection.deadline == deadline


async def test_a_slow_answer_is_no_idle_connection(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    async def script(connection: WorkerConnection) -> None:
        await connection.request()
        router.pass_time(200.0)
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    worker = await run_worker(script)
    router = await run_router(worker, bounds=BoundsConfig(idle_timeout_s=75.0, body_timeout_s=60.0))
    client = await router.client()
    assert (await client.ask(post())).body == b"ok"


async def test_more_connections_than_allowed(run_router: RunRouter) -> None:
    router = await run_router(bounds=BoundsConfig(max_connections=2))
    first, second = await router.client(), await router.client()
    assert (await first.ask(get("/health"))).status == 200
    assert (await second.ask(get("/health"))).status == 200
    third = await router.client()
    got = await third.answer()
    assert got.status == 503
    assert got.error["code"] == "too_many_connections"
    assert got.value(b"retry-after") == b"1"
    assert await third.ended()
    first.close()
    await until(lambda: len(router.gateway.connections) == 1)
    fourth = await router.client()
    assert (await fourth.ask(get("/health"))).status == 200


async def test_trailers_without_end(run_router: RunRouter) -> None:
    router = await run_router(bounds=SMALL)
    client = await router.client()
    client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Long: ")
    await until(lambda: router.gateway.connections and router.connection.reader.body)
    connection = router.connection
    for _ in range(3):
        connection.data_received(b"a" * 1000)
    assert (await client.answer()).status == 431
    assert await client.ended()
