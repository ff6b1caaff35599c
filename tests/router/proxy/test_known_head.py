"""Heads that repeat are known without a parser; what only looks like them is not."""

from __future__ import annotations

import pytest

from shoal.router.proxy.known_head import known_head
from tests.router.compiled_mode import replaces_methods
from tests.router.proxy.conftest import RunRouter, RunWorker
from tests.router.proxy.raw_client import post
from tests.router.proxy.raw_worker import OK, WorkerConnection

MESSAGE = post(b"hello", fields=b"X-A: 1\r\n")


@pytest.mark.parametrize("body", [b"hello", b"", b"x" * 999_999])
def test_it_is_the_head_of_every_body(body: bytes) -> None:
    known = known_head(MESSAGE)
    assert known is not None
    assert known.body_of(post(body, fields=b"X-A: 1\r\n")) == body


@pytest.mark.parametrize(
    "message",
    [
        MESSAGE[:-1],
        MESSAGE + b"x",
        MESSAGE + MESSAGE,
        MESSAGE[:20],
        b"",
        b"\r\n" + MESSAGE,
        MESSAGE.replace(b"X-A: 1", b"X-A: 2"),
        MESSAGE.replace(b"POST", b"post"),
        MESSAGE.replace(b"\r\n\r\n", b"\r\nX-B: 1\r\n\r\n"),
        *(
            MESSAGE.replace(b"Length: 5", b"Length: " + digits)
            for digits in (
                b"", b"+5", b"-5", b" 5", b"5 ", b"5\t", b"0x5", b"5_", b"5,5", b"5, 5", b"05\n",
                b"\xd9\xa5", b"0000000005", b"5\r\nContent-Length: 5", b"5\r\nX: y", b"5\r",
            )
        ),
    ],
)  # fmt: skip
def test_what_differs_is_not_known(message: bytes) -> None:
    known = known_head(MESSAGE)
    assert known is not None
    assert known.body_of(message) is None


@pytest.mark.parametrize(
    "message",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nX: content-length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\nContent-Length: 5\n\nhello",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\n",
        post(b"hello", fields=b"X-A: %b\r\n" % (b"a" * 5000)),
    ],
)
def test_a_head_without_one_plain_length_is_not_kept(message: bytes) -> None:
    assert known_head(message) is None


async def test_requests_with_a_known_head_and_others_in_turn(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker()
    router = await run_router(worker)
    client = await router.client()
    bodies = [b'{"model":"m","n":%d}' % 10**number for number in range(12)]
    for number, body in enumerate(bodies):
        message = post(body)
        if number % 4 == 2:  # in two reads
            client.send(message[:-3])
            await client.writer.drain()
            client.send(message[-3:])
            assert (await client.answer()).status == 200
        elif number % 4 == 3:  # with a field of its own
            assert (await client.ask(post(body, fields=b"X-A: 1\r\n"))).status == 200
        else:
            assert (await client.ask(message)).status == 200
    assert [request.body for request in worker.requests] == bodies


@replaces_methods
async def test_it_is_used(run_worker: RunWorker, run_router: RunRouter) -> None:
    """Without the parser: one that would refuse everything is not asked."""
    router = await run_router(await run_worker())
    client = await router.client()
    assert (await client.ask(post())).status == 200
    router.connection.reader._parser = None  # type: ignore[assignment]
    assert (await client.ask(post(b'{"model":"m","n":1}'))).status == 200


async def test_pipelined_requests_keep_their_order(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker()
    router = await run_router(worker)
    client = await router.client()
    await client.ask(post())
    connection = router.connection
    for number in range(4):
        connection.data_received(post(b'{"model":"m","n":%d}' % number))
    for _ in range(4):
        assert (await client.answer()).status == 200
    assert [request.body[-2:] for request in worker.requests[1:]] == [b"0}", b"1}", b"2}", b"3}"]


async def test_too_many_pipelined_are_refused(run_worker: RunWorker, run_router: RunRouter) -> None:
    router = await run_router(await run_worker())
    client = await router.client()
    await client.ask(post())
    connection = router.connection
    for _ in range(12):
        connection.data_received(post())
    assert (await client.answer()).status == 200
    assert await client.ended()


async def test_bounds_hold_for_known_heads_too(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    router = await run_router(await run_worker())
    client = await router.client()
    await client.ask(post())
    bounds = router.gateway.bounds
    too_long = b'{"model":"m","x":"%b"}' % (b"x" * bounds.max_body_bytes)
    assert (await client.ask(post(too_long))).status == 413


@pytest.mark.parametrize("field", [b"Connection: close\r\n", b"Expect: 100-continue\r\n"])
async def test_heads_with_consequences_are_read_each_time(
    field: bytes, run_worker: RunWorker, run_router: RunRouter
) -> None:
    router = await run_router(await run_worker())
    client = await router.client()
    await client.ask(post())
    client.send(post(fields=field))
    assert (await client.answer()).status == 200
    if field.startswith(b"Connection"):
        assert await client.read() == b""
    else:
        assert (await client.ask(post())).status == 200


def _answer(body: bytes, *, head: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


async def test_answers_with_a_known_head(run_worker: RunWorker, run_router: RunRouter) -> None:
    answers = [
        (_answer(b"a"), b"a", b""),
        (_answer(b"b" * 100), b"b" * 100, b""),
        (_answer(b"c", head=b"X-A: 1\r\n"), b"c", b"1"),
        (_answer(b""), b"", b""),
        (OK, b"{}", b""),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nd", b"d", b""),
        (_answer(b"e"), b"e", b""),
    ]

    async def serve(connection: WorkerConnection) -> None:
        for message, _, _ in answers * 2:
            await connection.request()
            await connection.send(message)

    worker = await run_worker(serve)
    client = await (await run_router(worker)).client()
    for message, body, value in answers * 2:
        answer = await client.ask(post())
        assert answer.body == body
        assert (answer.values(b"x-a") or [b""]) == [value]
        assert answer.status == int(message[9:12])
    assert len(worker.connections) == 1
