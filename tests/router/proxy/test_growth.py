"""What has ended leaves nothing behind: objects are counted, not bytes.

What may grow is bounded and named: the ring of kept decisions, the prefix index, the heads of
connections. They are full before anything is counted.
"""

from __future__ import annotations

import gc
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from shoal.router.settings.access import TelemetryConfig
from shoal.router.settings.config import FailoverConfig
from shoal.router.settings.protection import LimitsConfig
from shoal.router.settings.routing import RoutingConfig
from tests.router.proxy.conftest import RunRouter, RunWorker
from tests.router.proxy.raw_client import RawClient, get, post, until
from tests.router.proxy.raw_worker import RawWorker, WorkerConnection
from tests.router.proxy.running_router import RunningRouter
from tests.router.proxy.test_plain_chunk import DONE, HEAD, STOP, chunk, token

ROUNDS = 60
USAGE = b'{"usage":{"prompt_tokens":3,"completion_tokens":1}}'
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(USAGE), USAGE)
STREAM = HEAD + chunk(token("a")) + chunk(token("b")) + chunk(STOP) + chunk(DONE) + b"0\r\n\r\n"


async def serve(connection: WorkerConnection) -> None:
    while True:
        request = await connection.request()
        if b'"die"' in request.body:
            await connection.send(HEAD + chunk(token("a")))
            connection.reset()
            return
        if b'"busy"' in request.body:
            await connection.send(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")
        else:
            await connection.send(STREAM if b'"stream"' in request.body else WHOLE)


def requests(number: int) -> Iterator[bytes]:
    """All of one round; what clients can choose differs from round to round."""
    name = b"%d" % number
    yield post(b'{"model":"m","prompt":"%b"}' % (name * 600))
    yield post(b'{"model":"m","user":"%b"}' % name, fields=b"X-Session-Id: %b\r\n" % name)
    yield post(b'{"model":"m","n":1}', fields=b"X-Request-Id: r%b\r\n" % name)
    yield post(b'{"model":"m","n":1}', fields=b"X-A%b: %b\r\n" % (name, name))
    yield post(b'{"model":"m","stream":true,"temperature":0,"prompt":"x"}')
    yield post(b'{"model":"m","stream":true,"temperature":1,"messages":[]}')
    yield post(b'{"model":"m","prompt":"busy"}')
    yield post(b'{"model":"unknown%b"}' % name)
    yield post(b"{")
    yield get("/v1/models")
    yield get(f"/nothing/{number}")


async def rounds(router: RunningRouter, client: RawClient, first: int) -> None:
    for number in range(first, first + ROUNDS):
        for request in requests(number):
            await client.ask(request)
        other = await router.client()  # it leaves before its answer
        other.send(post(b'{"model":"m","stream":true,"prompt":"x"}'))
        await until(lambda: len(router.gateway.connections) == 2)
        other.writer.transport.abort()
        router._clients.remove(other)
        await until(lambda: len(router.gateway.connections) == 1)
    router.gateway.records.write()


def forget(worker: RawWorker) -> None:
    """What the test itself keeps."""
    worker.requests.clear()
    del worker.connections[:-2]


def objects() -> Counter[str]:
    """Of the router's classes."""
    return Counter(
        type(thing).__qualname__
        for thing in gc.get_objects()
        if str(type(thing).__module__).startswith("shoal.router.")
    )


@pytest.mark.parametrize("mode", ["exact", "off"])
async def test_what_has_ended_leaves_nothing_behind(
    mode: str, tmp_path: Path, run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker(serve)
    router = await run_router(
        worker,
        engine="vllm",
        failover=FailoverConfig(mode=mode),  # type: ignore[arg-type]
        limits=LimitsConfig(requests_per_minute=1_000_000, tokens_per_minute=1_000_000_000),
        routing=RoutingConfig(max_index_blocks=1024),
        telemetry=TelemetryConfig(
            access_log=str(tmp_path / "access.log"), usage_log=str(tmp_path / "usage.log")
        ),
    )
    router.gateway.dispatcher.decisions = deque(maxlen=8)
    client = await router.client()
    gc.collect()
    gc.disable()  # a cycle is a thing left behind, too
    try:
        for warm_up in range(3):
            await rounds(router, client, warm_up * ROUNDS)
        forget(worker)
        before = objects()
        for later in range(3, 6):
            await rounds(router, client, later * ROUNDS)
            forget(worker)
        grown = objects() - before
    finally:
        gc.enable()
    assert all(count < ROUNDS // 2 for count in grown.values()), grown
