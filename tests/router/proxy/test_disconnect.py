"""A client that goes: its work stops at once, wherever it is, and nothing is left behind.

No timer runs in these tests: what happens follows from the end of the connection itself.
"""

from __future__ import annotations

import asyncio
import socket

import pytest

from shoal.router.settings.listen import BoundsConfig, UpstreamConfig
from shoal.router.settings.protection import FlowControlConfig
from tests.router.proxy.conftest import RunRouter, RunWorker
from tests.router.proxy.raw_client import RawClient, post, until
from tests.router.proxy.raw_worker import PATIENCE_S, WorkerConnection, chunk
from tests.router.proxy.running_router import RunningRouter, record

SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b'data: {"choices":[{"index":0,"text":"a"}]}\n\n'


class Watched:
    """A worker that begins an answer, or not, and hears when the router goes."""

    def __init__(self, begins: bytes = b"") -> None:
        self._begins = begins
        self._gone = asyncio.Event()

    async def __call__(self, connection: WorkerConnection) -> None:
        await connection.request()
        await connection.send(self._begins)
        await connection.gone()
        self._gone.set()

    async def gone(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self._gone.wait()


def leave(client: RawClient, how: str) -> None:
    getattr(client, how)()


def check_nothing_is_left(router: RunningRouter) -> None:
    gateway = router.gateway
    assert not gateway.connections
    assert not gateway.attempts
    assert not len(gateway.dispatcher.queue)
    for entry in gateway.fleet.entries.values():
        assert (entry.own_in_flight, entry.own_prefill_tokens) == (0, 0)
        assert entry.pool.num_idle == 0


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_before_the_answer(how: str, run_worker: RunWorker, run_router: RunRouter) -> None:
    watched = Watched()
    worker = await run_worker(watched)
    router = await run_router(worker)
    router.sweeper.stop()
    client = await router.client()
    client.send(post())
    await until(lambda: worker.requests)
    leave(client, how)
    await watched.gone()
    check_nothing_is_left(router)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("engine", ["openai", "shoal"])
async def test_in_the_middle_of_a_stream(
    how: str, engine: str, run_worker: RunWorker, run_router: RunRouter
) -> None:
    watched = Watched(SSE + chunk(EVENT))
    worker = await run_worker(watched)
    router = await run_router(worker, engine=engine)
    router.sweeper.stop()
    client = await router.client()
    body = b'{"model":"m","prompt":"x","stream":true,"temperature":0}'
    client.send(post(body, path="/v1/completions"))
    await client.read_until(EVENT)
    leave(client, how)
    await watched.gone()
    check_nothing_is_left(router)


async def test_while_it_waits_for_a_worker(run_worker: RunWorker, run_router: RunRouter) -> None:
    watched = Watched()
    worker = await run_worker(watched)
    one = FlowControlConfig(adaptive_concurrency=False, min_concurrency=1, max_concurrency=1)
    router = await run_router(worker, flow_control=one)
    router.sweeper.stop()
    first, second = await router.client(), await router.client()
    first.send(post())
    await until(lambda: worker.requests)
    second.send(post())
    await until(lambda: len(router.gateway.dispatcher.queue) == 1)
    second.close()
    await until(lambda: len(router.gateway.dispatcher.queue) == 0)
    first.close()
    await watched.gone()
    assert len(worker.requests) == 1
    check_nothing_is_left(router)


async def test_while_it_waits_for_a_model(run_router: RunRouter) -> None:
    router = await run_router(record("http://127.0.0.1:9", status="unhealthy"))
    router.sweeper.stop()
    client = await router.client()
    client.send(post())
    await until(lambda: len(router.gateway.dispatcher.queue) == 1)
    client.close()
    await until(lambda: len(router.gateway.dispatcher.queue) == 0)
    check_nothing_is_left(router)


async def test_while_the_router_connects(run_router: RunRouter) -> None:
    """A full backlog: the kernel leaves the router's connection waiting."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(address)
        router = await run_router(
            record(f"http://127.0.0.1:{address[1]}"), upstream=UpstreamConfig(connect_timeout_s=30)
        )
        router.sweeper.stop()
        client = await router.client()
        client.send(post())
        await until(lambda: router.gateway.attempts)
        (attempt,) = router.gateway.attempts
        connecting = attempt._connecting
        assert connecting is not None
        client.close()
        await until(lambda: connecting.done())
        assert connecting.cancelled()
        check_nothing_is_left(router)
        for sock in waiting:
            sock.close()


async def test_between_two_tries(run_worker: RunWorker, run_router: RunRouter) -> None:
    """All workers have failed it, and it waits before it asks them again."""

    async def script(connection: WorkerConnection) -> None:
        await connection.request()
        connection.reset()

    worker = await run_worker(script)
    router = await run_router(worker)
    router.sweeper.stop()
    client = await router.client()
    client.send(post())
    await until(lambda: router.gateway.connections and router.connection.exchange)
    exchange = router.connection.exchange
    assert exchange is not None
    await until(lambda: exchange._timer)
    timer = exchange._timer
    assert timer is not None
    client.close()
    await until(lambda: exchange.is_over)
    assert timer.cancelled()
    check_nothing_is_left(router)
    assert len(worker.requests) == 1


async def test_while_it_takes_nothing(run_worker: RunWorker, run_router: RunRouter) -> None:
    gone = asyncio.Event()

    async def script(connection: WorkerConnection) -> None:
        await connection.request()
        try:
            await connection.send(SSE)
            while True:
                await connection.send(chunk(EVENT * 1000))
        finally:
            gone.set()

    worker = await run_worker(script)
    router = await run_router(worker, bounds=BoundsConfig(write_buffer_bytes=1000))
    router.sweeper.stop()
    client = await router.client(receive_buffer=4096)
    client.send(post())
    await client.read_until(b"\r\n\r\n")
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await until(lambda: router.connection.paused)
    client.reset()
    async with asyncio.timeout(PATIENCE_S):
        await gone.wait()
    await until(lambda: not router.gateway.connections)
    check_nothing_is_left(router)


async def test_in_the_middle_of_its_own_request(run_router: RunRouter) -> None:
    router = await run_router()
    client = await router.client()
    client.send(post()[:-5])
    await until(lambda: router.gateway.connections and router.connection.reader.body)
    client.close()
    await until(lambda: not router.gateway.connections)
    check_nothing_is_left(router)
