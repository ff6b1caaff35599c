"""Connections that are kept: reuse, age, number, and the worker that closes at the wrong moment."""

from __future__ import annotations

import asyncio

import pytest

from shoal.router.settings.listen import UpstreamConfig
from tests.router.proxy.conftest import RunRouter, RunWorker
from tests.router.proxy.raw_client import RawClient, post, until
from tests.router.proxy.raw_worker import OK, RawWorker, WorkerConnection, answering, in_turn
from tests.router.proxy.running_router import RunningRouter


def num_idle(router: RunningRouter, worker: RawWorker) -> int:
    return router.gateway.fleet.entries[worker.url].pool.num_idle


async def ask_at_once(router: RunningRouter, count: int) -> list[RawClient]:
    """That many requests that are all under way at the same time."""
    clients = [await router.client() for _ in range(count)]
    for client in clients:
        client.send(post())
    return clients


async def test_connections_are_shared_by_clients(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    worker = await run_worker()
    router = await run_router(worker)
    for _ in range(3):
        client = await router.client()
        assert (await client.ask(post())).status == 200
    assert len(worker.connections) == 1


async def test_none_is_used_after_the_idle_limit(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    ended: list[WorkerConnection] = []

    async def script(connection: WorkerConnection) -> None:
        await connection.request()
        await connection.send(OK)
        await connection.gone()
        ended.append(connection)

    worker = await run_worker(script)
    router = await run_router(worker, upstream=UpstreamConfig(pool_idle_timeout_s=4.0))
    client = await router.client()
    await client.ask(post())
    router.sweeper.stop()
    router._ahead_s += 4.1  # the sweeper has not been there since
    await client.ask(post())
    assert len(worker.connections) == 2
    await until(lambda: len(ended) == 1)


async def test_the_sweeper_closes_old_ones(run_worker: RunWorker, run_router: RunRouter) -> None:
    worker = await run_worker()
    router = await run_router(worker, upstream=UpstreamConfig(pool_idle_timeout_s=4.0))
    client = await router.client()
    await client.ask(post())
    for _ in range(4):
        router.pass_time(0.9)
    assert num_idle(router, worker) == 1
    for _ in range(4):
        router.pass_time(0.2)
    assert num_idle(router, worker) == 0


@pytest.mark.parametrize(("limit", "kept"), [(0, 0), (2, 2), (10, 3)])
async def test_so_many_are_kept(
    limit: int, kept: int, run_worker: RunWorker, run_router: RunRouter
) -> None:
    everyone = asyncio.Barrier(3)

    async def script(connection: WorkerConnection) -> None:
        await connection.request()
        await everyone.wait()
        await connection.send(OK)
        await connection.gone()

    worker = await run_worker(script)
    router = await run_router(worker, upstream=UpstreamConfig(max_pooled_per_endpoint=limit))
    for client in await ask_at_once(router, 3):
        assert (await client.answer()).status == 200
    assert num_idle(router, worker) == kept


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_worker_that_closes_exactly_when_its_connection_is_used_again(
    how: str, run_worker: RunWorker, run_router: RunRouter
) -> None:
    """The client never hears of that race, however many connections are gone."""
    everyone = asyncio.Barrier(5)

    async def script(connection: WorkerConnection) -> None:
        await connection.request()
        await everyone.wait()
        await connection.send(OK)
        await connection._reader.readexactly(1)
        getattr(connection, how)()

    first = await run_worker(in_turn(*[script] * 5, answering(OK)))
    router = await run_router(first)
    for client in await ask_at_once(router, 5):
        assert (await client.answer()).status == 200
    assert num_idle(router, first) == 5
    client = await router.client()
    for _ in range(8):
        assert (await client.ask(post())).status == 200
    assert len(first.requests) == 5 + 8


async def test_a_worker_that_closes_an_idle_connection(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    closed = asyncio.Event()

    async def script(connection: WorkerConnection) -> None:
        await connection.request()
        await connection.send(OK)
        await closed.wait()

    worker = await run_worker(in_turn(script, answering(OK)))
    router = await run_router(worker)
    client = await router.client()
    await client.ask(post())
    assert num_idle(router, worker) == 1
    closed.set()
    await until(lambda: num_idle(router, worker) == 0)
    assert (await client.ask(post())).status == 200


async def test_a_worker_that_speaks_on_an_idle_connection(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    """Else the next client would get an answer that was made for nobody."""
    speak = asyncio.Event()

    async def script(connection: WorkerConnection) -> None:
        await connection.request()
        await connection.send(OK)
        await speak.wait()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
        await connection.gone()

    worker = await run_worker(in_turn(script, answering(OK)))
    router = await run_router(worker)
    client = await router.client()
    await client.ask(post())
    speak.set()
    await until(lambda: num_idle(router, worker) == 0)
    assert (await client.ask(post())).body == b"{}"


async def test_connections_of_a_removed_worker_close(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    idle_closed = asyncio.Event()

    async def idle(connection: WorkerConnection) -> None:
        await connection.request()
        await connection.send(OK)
        await connection.gone()
        idle_closed.set()

    worker = await run_worker(idle)
    router = await run_router(worker)
    client = await router.client()
    await client.ask(post())
    router.take_workers([])
    async with asyncio.timeout(30):
        await idle_closed.wait()
