"""Slow clients and slow workers: bounded memory, nothing lost, nobody waits for ever."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from shoal.router.settings.listen import BoundsConfig
from tests.router.proxy.conftest import RunRouter, RunWorker
from tests.router.proxy.raw_client import RawClient, post, until
from tests.router.proxy.raw_worker import OK, WorkerConnection, chunk
from tests.router.proxy.running_router import RunningRouter

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
BUFFER = 100_000
READ_BYTES = 256 * 1024
"""What the loop reads at once."""
COUNT = 400
"""20 MB in all: more than the sockets between a worker and a client hold."""
PIECE = chunk(b"x" * 50_000)


class Flood:
    """A worker that writes as fast as it is let."""

    def __init__(self) -> None:
        self.num_sent = 0
        self.gone = asyncio.Event()

    async def __call__(self, connection: WorkerConnection) -> None:
        await connection.request()
        try:
            await connection.send(HEAD)
            for _ in range(COUNT):
                await connection.send(PIECE)
                self.num_sent += 1
            await connection.send(b"0\r\n\r\n")
        finally:
            self.gone.set()


async def stalled(router: RunningRouter) -> RawClient:
    """A client that has asked and takes nothing more; returned when the router holds all it may."""
    client = await router.client(receive_buffer=4096)
    await until(lambda: router.gateway.connections)
    transport = router.connection.transport
    assert transport is not None
    sock: socket.socket = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    client.send(post())
    await client.read_until(b"\r\n\r\n")
    cast(asyncio.Transport, client.writer.transport).pause_reading()
    await until(lambda: router.connection.paused)
    return client


def resume(client: RawClient) -> None:
    sock: socket.socket = client.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    cast(asyncio.Transport, client.writer.transport).resume_reading()


def held(router: RunningRouter) -> int:
    transport = router.connection.transport
    assert transport is not None
    return transport.get_write_buffer_size()


async def test_a_slow_client_pauses_its_worker_and_gets_all(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    flood = Flood()
    worker = await run_worker(flood)
    router = await run_router(worker, bounds=BoundsConfig(write_buffer_bytes=BUFFER))
    client = await stalled(router)
    exchange = router.connection.exchange
    assert exchange is not None
    upstream = exchange._attempts[0].connection
    assert upstream is not None
    assert upstream._is_paused
    sent = -1
    while sent != flood.num_sent:  # until the sockets between us are full, too
        sent = flood.num_sent
        for _ in range(20):
            await asyncio.sleep(0.001)
    assert flood.num_sent < COUNT
    assert BUFFER < held(router) <= BUFFER + READ_BYTES
    resume(client)
    body = await client.read_until(b"\r\n0\r\n\r\n")
    assert len(body) == len(PIECE) * COUNT + 5
    assert body == PIECE * COUNT + b"0\r\n\r\n"
    assert not upstream._is_paused


async def test_one_slow_client_does_not_hold_up_another(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker(Flood())
    router = await run_router(worker, bounds=BoundsConfig(write_buffer_bytes=BUFFER))
    await stalled(router)
    other = await router.client()
    other.send(post())
    assert len(await other.read_until(b"\r\n0\r\n\r\n")) > len(PIECE) * COUNT


async def test_a_client_that_takes_nothing_is_closed(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    flood = Flood()
    worker = await run_worker(flood)
    router = await run_router(
        worker, bounds=BoundsConfig(write_buffer_bytes=BUFFER, write_timeout_s=60.0)
    )
    await stalled(router)
    router.pass_time(1.0)
    router.pass_time(58.0)
    assert router.gateway.connections
    router.pass_time(3.0)
    await until(lambda: not router.gateway.connections)
    async with asyncio.timeout(30):
        await flood.gone.wait()
    assert not router.gateway.attempts


async def test_a_client_that_takes_a_little_is_not(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker(Flood())
    router = await run_router(
        worker, bounds=BoundsConfig(write_buffer_bytes=BUFFER, write_timeout_s=60.0)
    )
    client = await stalled(router)
    transport = cast(asyncio.Transport, client.writer.transport)
    router.pass_time(1.0)
    for _ in range(3):
        before = held(router)
        while held(router) == before:  # until the kernel has passed some of it on
            transport.resume_reading()
            await client.read()
            transport.pause_reading()
        assert router.connection.paused
        router.pass_time(59.0)
        assert router.gateway.connections
    router.pass_time(61.0)
    await until(lambda: not router.gateway.connections)


async def test_a_worker_whose_client_is_slow_is_not_hung(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    """Its silence is ours: we do not read."""
    flood = Flood()
    worker = await run_worker(flood)
    router = await run_router(
        worker, bounds=BoundsConfig(write_buffer_bytes=BUFFER, write_timeout_s=1000.0)
    )
    client = await stalled(router)
    for _ in range(5):
        router.pass_time(61.0)
    assert not flood.gone.is_set()
    resume(client)
    assert (await client.read_until(b"\r\n0\r\n\r\n")).endswith(b"x\r\n0\r\n\r\n")


async def test_a_large_body_to_a_slow_worker(run_worker: RunWorker, run_router: RunRouter) -> None:
    go_on = asyncio.Event()

    async def script(connection: WorkerConnection) -> None:
        await go_on.wait()
        await connection.request()
        await connection.send(OK)

    worker = await run_worker(script)
    router = await run_router(worker)
    client = await router.client()
    body = b'{"model":"m","prompt":"%b"}' % (b"0123456789" * 1_600_000)
    client.send(post(body))
    await until(lambda: worker.connections)
    go_on.set()
    assert (await client.answer()).status == 200
    assert worker.requests[0].body == body
