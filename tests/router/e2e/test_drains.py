"""Workers and routers are replaced under load, and nobody's request fails."""

from __future__ import annotations

import asyncio
import signal

from tests.ports import free_port
from tests.router.e2e.asking import CHAT, Told, chat_body, eventually, greedy, stream
from tests.router.e2e.conftest import Connect, StartRouter, StartWorkers
from tests.router.e2e.load import load
from tests.router.e2e.processes import until
from tests.router.e2e.routers import Router
from tests.router.e2e.workers import FakeWorker

NUM_TOKENS = 50
SLOW = ("--ttft", "0.02", "--itl", "0.02")


async def test_a_drained_worker_finishes_and_gets_nothing_new(
    start_workers: StartWorkers, workers: list[FakeWorker], router: Router, connect: Connect
) -> None:
    [leaving] = start_workers(1, *SLOW)
    router.configure([leaving])
    client = connect(router)
    told = Told()
    asking = asyncio.create_task(stream(client, greedy(max_tokens=50), told=told))
    await eventually(lambda: told.num_parts > 3, "the stream to run")
    router.add(workers[0])
    router.drain(leaving)
    router.wait_status(workers[0], "ready")
    before = router.metrics()
    for _ in range(4):
        (await client.post(CHAT, json=chat_body(max_tokens=2))).raise_for_status()
    sent = (router.metrics() - before).by("shoal_router_decisions_total", "endpoint")
    assert sent == {workers[0].url: 4}
    assert not told.num_done
    await asking
    assert told.is_whole
    router.undrain(leaving)
    router.wait_status(leaving, "ready")
    router.remove(workers[0])


async def test_rolling_restart_of_all_workers(start_workers: StartWorkers, router: Router) -> None:
    """Each is drained, stopped, started and taken back."""
    rolling = start_workers(3)
    router.configure(rolling)
    async with load(router.url) as asked:
        for worker in rolling:
            router.drain(worker)
            await asked.more(10)
            await asyncio.to_thread(until, lambda w=worker: w.num_running == 0, "it to be idle")
            worker.program.signal(signal.SIGTERM)
            assert await asyncio.to_thread(worker.program.ended) == 0
            await asyncio.to_thread(worker.start_again)
            router.undrain(worker)
            await asyncio.to_thread(router.wait_status, worker, "ready")
        await asked.more(10)
    assert asked.failures == []


async def test_rolling_restart_without_a_word(start_workers: StartWorkers, router: Router) -> None:
    """As a careless operator does it: SIGTERM, and start again."""
    rolling = start_workers(3)
    router.configure(rolling)
    async with load(router.url) as asked:
        for worker in rolling:
            await asked.more(10)
            worker.program.signal(signal.SIGTERM)
            assert await asyncio.to_thread(worker.program.ended) == 0
            await asyncio.to_thread(worker.start_again)
            await asyncio.to_thread(router.wait_status, worker, "ready")
        await asked.more(10)
    assert asked.failures == []


async def test_replacing_the_data_plane_processes_loses_nothing(
    start_workers: StartWorkers, workers: list[FakeWorker], pair: Router, connect: Connect
) -> None:
    [slow] = start_workers(1, *SLOW)
    before, old = pair.metrics(), set(pair.process_ids().values())
    told, asking = await running_stream(pair.configure([slow]), slow, connect)
    pair.configure(workers)
    async with load(pair.url) as asked:
        await asked.more(10)
        answer = await asyncio.to_thread(pair.admin.post, "/admin/restart")
        assert answer.json() == {"replaced": 2}
        await asked.more(30)
    assert asked.failures == []
    slow.go_on()
    await asking
    assert told.is_whole
    assert len(told.text.split()) == NUM_TOKENS
    await eventually(lambda: not old & set(pair.process_ids().values()), "the old ones to end")
    # What the old ones counted is still there.
    counted = pair.metrics() - before
    assert counted.by("shoal_router_requests_total", "code") == {"200": asked.num_good + 1}, (
        pair.program.said()
    )


async def test_a_takeover_loses_nothing(
    start_workers: StartWorkers,
    workers: list[FakeWorker],
    start_router: StartRouter,
    connect: Connect,
) -> None:
    [slow] = start_workers(1, *SLOW)
    port, admin_port = free_port(), free_port()
    old = start_router([slow], port=port, admin_port=admin_port, processes=2)
    told, asking = await running_stream(old, slow, connect)
    old.configure(workers)
    async with load(old.url) as asked:
        await asked.more(10)
        new = await asyncio.to_thread(
            lambda: start_router(workers, None, "--takeover", port=port, admin_port=admin_port)
        )
        await asked.more(30)
    assert asked.failures == []
    slow.go_on()
    await asking
    assert told.is_whole
    assert await asyncio.to_thread(old.program.ended) == 0
    assert (await connect(new).post(CHAT, json=chat_body(max_tokens=1))).status_code == 200


async def test_a_stream_outlives_a_restart_and_the_end_of_the_router(
    start_workers: StartWorkers, start_router: StartRouter, connect: Connect
) -> None:
    """It runs in a process that was replaced when the router is told to end."""
    [slow] = start_workers(1, *SLOW)
    router = start_router([slow])
    told, asking = await running_stream(router, slow, connect)
    assert (await asyncio.to_thread(router.admin.post, "/admin/restart")).json() == {"replaced": 1}
    router.program.signal(signal.SIGTERM)
    log = router.program.said
    await eventually(lambda: "process.ended" in log(), "the end of the process without a request")
    slow.go_on()
    await asking
    assert told.is_whole, log()
    assert await asyncio.to_thread(router.program.ended) == 0


async def running_stream(
    router: Router, worker: FakeWorker, connect: Connect
) -> tuple[Told, asyncio.Task[Told]]:
    """A stream that has begun, and goes on when its worker does."""
    told = Told()
    asking = asyncio.create_task(stream(connect(router), greedy(max_tokens=NUM_TOKENS), told=told))
    await eventually(lambda: told.num_parts > 3, "the stream to run")
    worker.stop()
    return told, asking
