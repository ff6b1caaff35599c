"""Answers of workers, odd ones too: what the client gets of them, and when it gets none."""

from __future__ import annotations

import asyncio

import pytest

from tests.router.proxy.conftest import RunRouter, RunWorker
from tests.router.proxy.raw_client import BrokenAnswer, get, post, until
from tests.router.proxy.raw_worker import (
    OK,
    WorkerConnection,
    answering,
    answering_once,
    chunk,
    in_turn,
)

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (HEAD + b"content-length: 5\r\n\r\nhello", 200, b"hello"),
        (HEAD + b"content-length: 0\r\n\r\n", 200, b""),
        (CHUNKED + chunk(b"hel") + chunk(b"lo") + b"0\r\n\r\n", 200, b"hello"),
        (CHUNKED + b"0\r\n\r\n", 200, b""),
        (CHUNKED + b"5;name=value\r\nhello\r\n0;x\r\n\r\n", 200, b"hello"),
        (CHUNKED + chunk(b"hello") + b"0\r\nx-trailer: 1\r\n\r\n", 200, b"hello"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", 204, b""),
        (b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", 304, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"{}"),
        (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 2 + OK, 200, b"{}"),
        (b"\r\n\r\n" + OK, 200, b"{}"),
        (b"HTTP/1.1 100 Continue\r\n\r\n\r\n" + OK, 200, b"{}"),
        (b"HTTP/1.1 418 \r\ncontent-length: 1\r\n\r\nx", 418, b"x"),
        (b"HTTP/1.1 422\r\ncontent-length: 1\r\n\r\nx", 422, b"x"),
        (b"HTTP/1.1 299 Odd\r\ncontent-length: 1\r\n\r\nx", 299, b"x"),
    ],
)
@pytest.mark.parametrize("engine", ["openai", "shoal"])
async def test_a_whole_answer_in_any_form(
    answer: bytes, status: int, body: bytes, engine: str, run_worker: RunWorker,
    run_router: RunRouter,
) -> None:  # fmt: skip
    worker = await run_worker(answering(answer))
    router = await run_router(worker, engine=engine)
    client = await router.client()
    for _ in range(2):
        got = await client.ask(post(b'{"model":"m","stream":true,"temperature":0,"prompt":"x"}'))
        assert (got.status, got.body) == (status, body)
    assert len(worker.connections) == 1


@pytest.mark.parametrize("engine", ["openai", "shoal"])
async def test_an_answer_that_comes_byte_by_byte(
    engine: str, run_worker: RunWorker, run_router: RunRouter
) -> None:
    answer = b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED + chunk(b"hello") + b"0\r\n\r\n"
    worker = await run_worker(answering_once(*(bytes([byte]) for byte in answer)))
    router = await run_router(worker, engine=engine)
    client = await router.client()
    got = await client.ask(post(b'{"model":"m","stream":true,"temperature":0,"prompt":"x"}'))
    assert got.body == b"hello"


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_body_that_ends_with_its_connection(
    version: bytes, run_worker: RunWorker, run_router: RunRouter
) -> None:
    head = b"HTTP/%b 200 OK\r\ncontent-type: text/plain\r\n\r\n" % version
    worker = await run_worker(answering_once(head, b"hel", b"lo"))
    router = await run_router(worker)
    client = await router.client()
    got = await client.ask(post())
    assert got.body == b"hello"
    assert got.value(b"connection") == b"close"
    assert await client.ended()


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"content-length: 5\r\n\r\nhel",
        HEAD + b"content-length: 5\r\n\r\nhelloGARBAGE",
        CHUNKED + chunk(b"hel") + b"zz\r\nlo\r\n",
        CHUNKED + chunk(b"hel") + b"5\r\nloXYZ0\r\n\r\n",
        CHUNKED + chunk(b"hel") + b"fffffffffffffffff\r\n",
        CHUNKED + chunk(b"hel"),
        CHUNKED + chunk(b"hel") + b"0\r\n",
    ],
)
async def test_an_answer_that_breaks_off_never_looks_whole(
    answer: bytes, run_worker: RunWorker, run_router: RunRouter
) -> None:
    """It has begun, so the client has its head: it must see that the rest is missing."""
    start = answer.index(b"\r\n\r\n") + 6

    async def script(connection: WorkerConnection) -> None:
        await connection.request()
        await connection.send(answer[:start])
        await until(lambda: router.connection.exchange and router.connection.exchange.is_committed)
        await connection.send(answer[start:])

    worker = await run_worker(script)
    router = await run_router(worker)
    client = await router.client()
    client.send(post())
    if b"GARBAGE" in answer:  # all that was asked for had come
        assert (await client.read_all()).endswith(b"he")
        return
    with pytest.raises(BrokenAnswer):
        await client.answer()
    assert len(worker.requests) == 1


async def test_a_reset_in_a_body_that_ends_with_its_connection_is_no_end(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    """Without a length only the way it closes tells a client that something is missing."""

    async def script(connection: WorkerConnection) -> None:
        await connection.request()
        await connection.send(HEAD + b"\r\nhel")
        await until(lambda: router.connection.exchange and router.connection.exchange.is_committed)
        connection.reset()

    worker = await run_worker(script)
    router = await run_router(worker)
    client = await router.client()
    client.send(post())
    with pytest.raises(BrokenAnswer, match="reset"):
        await client.answer()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        HEAD + b"content-length: 5\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        HEAD + b"content-length: -1\r\n\r\nx",
        HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\nx",
        HEAD + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"x: a\r\n folded\r\ncontent-length: 1\r\n\r\nx",
        HEAD + b"x: a\0b\r\ncontent-length: 1\r\n\r\nx",
        HEAD + b"x : a\r\ncontent-length: 1\r\n\r\nx",
        HEAD.replace(b"\r\n", b"\n") + b"content-length: 1\n\nx",
        HEAD + b"content-length: 1\r\n\r\nxHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\ny",
        HEAD + b"x: " + b"a" * 70_000 + b"\r\ncontent-length: 1\r\n\r\nx",
        HEAD + b"x: a\r\n" * 20_000,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 5_000,
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nx",
        CHUNKED + b"nothing\r\n",
    ],
    ids=lambda answer: repr(answer[:60]),
)
async def test_what_is_no_answer_is_a_bad_gateway(
    answer: bytes, run_worker: RunWorker, run_router: RunRouter
) -> None:
    workers = [await run_worker(answering_once(answer)) for _ in range(2)]
    router = await run_router(*workers)
    client = await router.client()
    got = await client.ask(post())
    assert got.status == 502
    assert got.error["code"] == "bad_gateway"
    assert [len(worker.requests) for worker in workers] == [1, 1]
    assert (await client.ask(get("/health"))).status == 200


async def test_no_answer_from_one_worker_is_one_from_another(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker(in_turn(answering_once(b"nonsense"), answering(OK)))
    router = await run_router(worker)
    client = await router.client()
    assert (await client.ask(post())).status == 200
    first, second = worker.requests
    assert first.raw == second.raw


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"content-length: 2\r\n\r\nok\r\n\r\n",
        HEAD + b"content-length: 2\r\n\r\nok\r\n",
        CHUNKED + b"2\r\nok\r\n0\r\n\r\n\r\n\r\n",
        CHUNKED + b"2\r\nok\r\n0\r\n\r\n\n",
    ],
)
@pytest.mark.parametrize("pieces", [1, 2])
async def test_empty_lines_after_an_answer_are_not_passed_on(
    answer: bytes, pieces: int, run_worker: RunWorker, run_router: RunRouter
) -> None:
    middle = answer.index(b"\r\n\r\n") + 5

    async def script(connection: WorkerConnection) -> None:
        await connection.request()
        if pieces == 2:
            await connection.send(answer[:middle])
            exchange = router.connection.exchange
            assert exchange is not None
            await until(lambda: exchange.is_committed)
            await connection.send(answer[middle:])
        else:
            await connection.send(answer)
        await connection.gone()

    worker = await run_worker(script)
    router = await run_router(worker)
    client = await router.client()
    end = b"\r\n0\r\n\r\n" if answer.startswith(CHUNKED) else b""
    for _ in range(2):
        client.send(post())
        assert (await client.read_until(b"ok" + end)).startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(worker.connections) == 2


async def test_empty_lines_after_an_answer_without_body(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker(answering_once(b"HTTP/1.1 204 No Content\r\n\r\n\r\n"))
    router = await run_router(worker)
    client = await router.client()
    for _ in range(2):
        client.send(post())
        head = await client.read_until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 204 No Content\r\n")
        assert not client._unread
    assert len(worker.connections) == 2


@pytest.mark.parametrize("payload", [b"a\n\n\n\n\n\n", b"\r\n" * 50, b"data: x\n\n"])
@pytest.mark.parametrize("engine", ["openai", "shoal"])
async def test_empty_lines_inside_a_body_stay(
    payload: bytes, engine: str, run_worker: RunWorker, run_router: RunRouter
) -> None:
    head = HEAD
    for framed in (
        head + b"transfer-encoding: chunked\r\n\r\n" + chunk(payload) + b"0\r\n\r\n",
        head + b"content-length: %d\r\n\r\n%b" % (len(payload), payload),
    ):
        worker = await run_worker(answering(framed))
        router = await run_router(worker, engine=engine)
        client = await router.client()
        body = b'{"model":"m","stream":true,"temperature":0,"prompt":"x"}'
        for version in ("1.1", "1.0"):
            got = await client.ask(post(body, version=version))
            assert got.body == payload


async def test_trailers_do_not_become_fields(run_worker: RunWorker, run_router: RunRouter) -> None:
    worker = await run_worker(
        answering(CHUNKED + chunk(b"x") + b"0\r\nset-cookie: evil\r\ncontent-type: evil\r\n\r\n")
    )
    router = await run_router(worker)
    client = await router.client()
    for _ in range(2):
        got = await client.ask(post())
        assert got.values(b"content-type") == [b"text/plain"]
        assert got.values(b"set-cookie") == []


async def test_a_worker_that_closes_after_its_answer(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    closing = HEAD + b"connection: close\r\ncontent-length: 2\r\n\r\nok"

    async def script(connection: WorkerConnection) -> None:
        await connection.request()
        await connection.send(closing)
        await connection.gone()

    worker = await run_worker(script)
    router = await run_router(worker)
    client = await router.client()
    for _ in range(3):
        got = await client.ask(post())
        assert got.body == b"ok"
        assert got.values(b"connection") == []
    assert len(worker.connections) == 3


async def test_an_error_of_the_worker_is_passed_on_as_it_is(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    body = b'{"error": {"message": "too long", "code": 400}}'
    answer = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    worker = await run_worker(answering(answer % len(body) + b"\r\n" + body))
    router = await run_router(worker)
    client = await router.client()
    got = await client.ask(post())
    assert (got.status, got.body) == (400, body)
    assert len(worker.requests) == 1


async def test_an_early_answer_to_a_body_that_nobody_reads(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    """The connection still has the rest of the body in it: it is not used again."""

    async def script(connection: WorkerConnection) -> None:
        await connection.writer.drain()
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await connection.send(HEAD + b"content-length: 2\r\n\r\nno")
        await asyncio.Event().wait()

    worker = await run_worker(in_turn(script, answering(OK)))
    router = await run_router(worker)
    client = await router.client()
    big = b'{"model":"m","prompt":"%b"}' % (b"x" * 12_000_000)
    assert (await client.ask(post(big))).body == b"no"
    assert (await client.ask(post())).body == b"{}"
    assert len(worker.connections) == 2
