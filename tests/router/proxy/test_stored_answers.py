"""Stored answers are found at the worker that has them."""

from __future__ import annotations

import pytest

from tests.router.proxy.conftest import RunRouter, RunWorker
from tests.router.proxy.keys import AUTH, bearer, keys_file
from tests.router.proxy.raw_client import get, post
from tests.router.proxy.raw_worker import Script, WorkerConnection
from tests.router.proxy.running_router import record

MISSING = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}"


def holding(name: bytes, status: bytes = b"200 OK") -> Script:
    """A worker that has one answer, and takes no body but the one it is told of."""

    async def serve(connection: WorkerConnection) -> None:
        while True:
            request = await connection.request()
            _, target, _ = request.request_line.split(b" ")
            if name and target.startswith(b"/v1/responses/" + name):
                body = b'{"id":"%b"}' % name
                head = b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
                await connection.send(head + body)
            else:
                await connection.send(MISSING)

    return serve


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (b"GET", b"/v1/responses/resp_1"),
        (b"GET", b"/v1/responses/resp_1?include=x"),
        (b"DELETE", b"/v1/responses/resp_1"),
        (b"GET", b"/v1/responses/resp_1/input_items"),
        (b"POST", b"/v1/responses/resp_1/cancel"),
    ],
)
async def test_the_worker_that_has_it_answers(
    method: bytes, path: bytes, run_worker: RunWorker, run_router: RunRouter
) -> None:
    workers = [await run_worker(holding(name)) for name in (b"", b"resp_1", b"resp_2")]
    client = await (await run_router(*workers)).client()
    for _ in range(2):
        client.send(b"%b %b HTTP/1.1\r\nHost: router\r\n\r\n" % (method, path))
        answer = await client.answer()
        assert (answer.status, answer.json()) == (200, {"id": "resp_1"})
        assert answer.value(b"x-request-id")
    assert all(request.request_line.split(b" ")[1] == path for request in workers[0].requests)


async def test_nobody_has_it(run_worker: RunWorker, run_router: RunRouter) -> None:
    workers = [await run_worker(holding(b"")) for _ in range(2)]
    client = await (await run_router(*workers)).client()
    answer = await client.ask(get("/v1/responses/resp_9"))
    assert (answer.status, answer.error["code"]) == (404, "not_found")


async def test_one_cannot_be_asked(run_worker: RunWorker, run_router: RunRouter) -> None:
    router = await run_router(await run_worker(holding(b"resp_1")), record("http://127.0.0.1:9"))
    client = await router.client()
    assert (await client.ask(get("/v1/responses/resp_1"))).status == 200
    assert (await client.ask(get("/v1/responses/resp_2"))).status == 502


async def test_what_the_worker_says_is_wrong(run_worker: RunWorker, run_router: RunRouter) -> None:
    workers = [await run_worker(holding(b"")), await run_worker(holding(b"r", b"400 Bad Request"))]
    client = await (await run_router(*workers)).client()
    assert (await client.ask(get("/v1/responses/r"))).status == 400


@pytest.mark.parametrize(
    ("message", "allow"),
    [
        (post(path="/v1/responses/r"), b"GET, DELETE"),
        (get("/v1/responses/r/cancel"), b"POST"),
        (get("/v1/responses"), b"POST"),
        (get("/v1/responses/r/other"), b"POST"),
    ],
)
async def test_other_methods(message: bytes, allow: bytes, run_router: RunRouter) -> None:
    client = await (await run_router()).client()
    answer = await client.ask(message)
    assert (answer.status, answer.value(b"allow")) == (405, allow)


async def test_only_workers_of_the_keys_models_are_asked(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    ours, theirs = await run_worker(holding(b"")), await run_worker(holding(b"r"))
    keys = keys_file(a="models: [m]", b="models: [n]")
    router = await run_router(record(ours.url, "m"), record(theirs.url, "n"), keys=keys, auth=AUTH)
    client = await router.client()
    assert (await client.ask(get("/v1/responses/r"))).status == 401
    assert (await client.ask(get("/v1/responses/r", fields=bearer("a")))).status == 404
    assert (await client.ask(get("/v1/responses/r", fields=bearer("b")))).status == 200
    assert theirs.requests[0].values(b"authorization") == []
