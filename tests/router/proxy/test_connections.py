"""What a client may do on one connection: bodies, order, versions, 100-continue, closing."""

from __future__ import annotations

import asyncio

import pytest

from tests.router.proxy.conftest import RunRouter, RunWorker
from tests.router.proxy.raw_client import get, post, until
from tests.router.proxy.raw_worker import OK, WorkerConnection, answering, chunk

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: router\r\n"
BODY = b'{"model":"m","prompt":"hello"}'


def echo(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


async def echoing(connection: WorkerConnection) -> None:
    """Answers with the body it got."""
    while True:
        await connection.send(echo((await connection.request()).body))


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1000])
async def test_a_chunked_body_travels_with_its_length(
    chunk_bytes: int, run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker()
    router = await run_router(worker)
    client = await router.client()
    pieces = [BODY[i : i + chunk_bytes] for i in range(0, len(BODY), chunk_bytes)]
    client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    for piece in pieces:
        client.send(chunk(piece))
        await asyncio.sleep(0)
    client.send(b"0\r\n\r\n")
    assert (await client.answer()).status == 200
    (request,) = worker.requests
    assert request.body == BODY
    assert request.value(b"content-length") == b"%d" % len(BODY)
    assert request.values(b"transfer-encoding") == []


async def test_pipelined_requests_are_answered_in_their_order(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker(echoing)
    router = await run_router(worker)
    client = await router.client()
    bodies = [b'{"model":"m","n":%d}' % number for number in range(9)]
    client.send(b"".join(post(body) for body in bodies))
    assert [(await client.answer()).body for _ in bodies] == bodies
    assert [request.body for request in worker.requests] == bodies


async def test_our_own_answers_wait_their_turn_too(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    go_on = asyncio.Event()

    async def script(connection: WorkerConnection) -> None:
        await connection.request()
        await go_on.wait()
        await connection.send(OK)

    worker = await run_worker(script)
    router = await run_router(worker)
    client = await router.client()
    client.send(post() + get("/health") + get("/v1/nothing") + get("/version"))
    await until(lambda: worker.requests)
    assert not client.reader._buffer  # type: ignore[attr-defined]
    go_on.set()
    assert [(await client.answer()).status for _ in range(4)] == [200, 200, 405, 200]


async def test_too_many_pipelined_requests(run_worker: RunWorker, run_router: RunRouter) -> None:
    """What is behind the ninth is not answered, and nobody has run it."""
    worker = await run_worker(echoing)
    router = await run_router(worker)
    client = await router.client()
    client.send(b"".join(post(b'{"model":"m","n":%d}' % number) for number in range(50)))
    assert (await client.answer()).body == b'{"model":"m","n":0}'
    assert await client.ended()
    assert len(worker.requests) == 1


async def test_a_flood_of_requests_that_we_answer_at_once(run_router: RunRouter) -> None:
    router = await run_router()
    client = await router.client()
    upgrading = get("/health", fields=b"Connection: upgrade\r\nUpgrade: h2c\r\n")
    client.send(upgrading * 3000)
    for _ in range(3000):
        assert (await client.answer()).status == 200


async def test_large_pipelined_bodies_wait_in_the_socket(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    go_on = asyncio.Event()

    async def script(connection: WorkerConnection) -> None:
        while True:
            request = await connection.request()
            await go_on.wait()
            await connection.send(echo(b"%d" % len(request.body)))

    worker = await run_worker(script)
    router = await run_router(worker)
    client = await router.client()
    large = post(b'{"model":"m","prompt":"%b"}' % (b"x" * 3_000_000))
    client.send(large * 5)
    await until(lambda: router.gateway.connections and router.connection._queue)
    await asyncio.sleep(0)
    assert not router.connection._reading
    assert len(router.connection._queue) == 1
    go_on.set()
    for _ in range(5):
        assert int((await client.answer()).body) > 3_000_000
    assert router.connection._reading


async def test_a_pipelined_disconnect_is_noticed(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    gone = asyncio.Event()

    async def script(connection: WorkerConnection) -> None:
        await connection.request()
        await connection.gone()
        gone.set()

    worker = await run_worker(script)
    router = await run_router(worker)
    client = await router.client()
    client.send(post() + post())
    await until(lambda: worker.requests and router.connection._queue)
    client.close()
    async with asyncio.timeout(30):
        await gone.wait()
    assert len(worker.requests) == 1


async def test_continue_is_said_before_a_body(run_worker: RunWorker, run_router: RunRouter) -> None:
    worker = await run_worker(echoing)
    router = await run_router(worker)
    client = await router.client()
    client.send(HEAD + b"Expect: 100-Continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
    assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(BODY)
    assert (await client.answer()).body == BODY
    assert worker.requests[0].values(b"expect") == []


async def test_continue_of_a_pipelined_request_comes_in_its_turn(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    go_on = asyncio.Event()

    async def script(connection: WorkerConnection) -> None:
        await connection.request()
        await go_on.wait()
        await connection.send(OK)
        await echoing(connection)

    worker = await run_worker(script)
    router = await run_router(worker)
    client = await router.client()
    client.send(post() + HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
    await until(lambda: worker.requests and router.connection.reader.request)
    go_on.set()
    answer = await client.read_until(b"\r\n\r\n{}")
    assert answer.startswith(b"HTTP/1.1 200 ")  # and no 100 before it
    assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(BODY)
    assert (await client.answer()).body == BODY


async def test_http_1_0_is_not_told_to_continue(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker()
    router = await run_router(worker)
    client = await router.client()
    client.send(post(version="1.0", fields=b"Expect: 100-continue\r\n"))
    assert (await client.read_all()).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("fields", [b"", b"Connection: keep-alive\r\n"])
async def test_http_1_0_gets_a_plain_body_and_the_end(
    fields: bytes, run_worker: RunWorker, run_router: RunRouter
) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
    worker = await run_worker(answering(head + chunk(b"hel") + chunk(b"lo") + b"0\r\n\r\n"))
    router = await run_router(worker)
    client = await router.client()
    client.send(post(version="1.0", fields=fields))
    head, _, body = (await client.read_all()).partition(b"\r\n\r\n")
    assert body == b"hello"
    assert b"transfer-encoding" not in head.lower()
    assert b"\r\nconnection: close" in head
    assert worker.requests[0].request_line.endswith(b" HTTP/1.1")


async def test_http_1_0_needs_no_host(run_worker: RunWorker, run_router: RunRouter) -> None:
    worker = await run_worker()
    router = await run_router(worker)
    client = await router.client()
    client.send(post(version="1.0").replace(b"Host: router\r\n", b""))
    assert (await client.answer()).status == 200
    assert worker.requests[0].value(b"host") == worker.url.removeprefix("http://").encode()


async def test_connection_close(run_worker: RunWorker, run_router: RunRouter) -> None:
    worker = await run_worker()
    router = await run_router(worker)
    client = await router.client()
    got = await client.ask(post(fields=b"Connection: close\r\n"))
    assert got.value(b"connection") == b"close"
    assert await client.ended()
    assert worker.requests[0].values(b"connection") == []


async def test_a_client_that_only_stops_sending_is_gone(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    """Half-closed looks the same as gone until something is written: the worker is spared."""
    gone = asyncio.Event()

    async def script(connection: WorkerConnection) -> None:
        await connection.request()
        await connection.gone()
        gone.set()

    worker = await run_worker(script)
    router = await run_router(worker)
    client = await router.client()
    client.send(post())
    await until(lambda: worker.requests)
    client.writer.write_eof()
    async with asyncio.timeout(30):
        await gone.wait()


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/v1/nothing"])
async def test_head_has_no_body(path: str, run_router: RunRouter) -> None:
    router = await run_router()
    client = await router.client()
    client.send(get(path).replace(b"GET", b"HEAD") + get("/health"))
    head = await client.answer("HEAD")
    assert int(head.value(b"content-length")) > 0
    assert (await client.answer()).json() == {"status": "ok"}


async def test_an_answer_finished_while_draining_closes(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker()
    router = await run_router(worker)
    client = await router.client()
    assert (await client.ask(post())).values(b"connection") == []
    router.gateway.is_draining = True
    assert (await client.ask(post())).value(b"connection") == b"close"
    assert await client.ended()
