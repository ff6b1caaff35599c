"""Workers that go, hang and come back."""

from __future__ import annotations

import asyncio

import pytest

from tests.router.e2e.asking import CHAT, Told, chat_body, eventually, greedy, stream
from tests.router.e2e.conftest import Connect, StartWorkers
from tests.router.e2e.load import load
from tests.router.e2e.processes import until
from tests.router.e2e.routers import Router
from tests.router.e2e.workers import FakeWorker

IN_TURN = {"routing": {"policy": "round_robin", "slow_start_s": 0}}


async def test_a_restarted_worker_is_back_at_once(
    start_workers: StartWorkers, workers: list[FakeWorker], router: Router, connect: Connect
) -> None:
    [mortal] = start_workers(1)
    router.configure([mortal, workers[0]], IN_TURN)
    client = connect(router)
    mortal.kill()
    router.wait_status(mortal, "unhealthy")
    mortal.start_again()
    router.wait_status(mortal, "ready")
    for _ in range(2):
        (await client.post(CHAT, json=chat_body(max_tokens=2))).raise_for_status()
    assert mortal.num_answered == 1


async def test_nothing_fails_while_workers_are_killed_under_load(
    start_workers: StartWorkers, router: Router
) -> None:
    mortals = start_workers(3)
    router.configure(mortals, {"breaker": {"consecutive_failures": 3}})
    async with load(router.url) as asked:
        for mortal in mortals:
            await asked.more(20)
            await asyncio.to_thread(mortal.start_again)
            await asyncio.to_thread(router.wait_status, mortal, "ready")
        await asked.more(20)
    assert asked.failures == []


async def test_requests_leave_a_hung_worker_within_the_deadline(
    start_workers: StartWorkers, workers: list[FakeWorker], router: Router, connect: Connect
) -> None:
    [mortal] = start_workers(1)
    upstream = {"first_byte_timeout_s": 1.5, "answer_timeout_s": 1.5}
    router.configure([mortal, workers[0]], {**IN_TURN, "upstream": upstream})
    client, before = connect(router), router.metrics()
    mortal.stop()
    # Connections are still taken, by the kernel: only silence shows that nobody is there.
    for body in (greedy(max_tokens=2), greedy(max_tokens=2), chat_body(max_tokens=2)):
        answer = await client.post(CHAT, json=body)
        assert answer.status_code == 200, answer.text
    assert (router.metrics() - before).sum("shoal_router_retries_total", reason="timeout") >= 1
    router.wait_status(mortal, "unhealthy")
    mortal.go_on()
    router.wait_status(mortal, "ready")


async def test_streams_leave_a_hung_worker(
    start_workers: StartWorkers, workers: list[FakeWorker], router: Router, connect: Connect
) -> None:
    [mortal] = start_workers(1, "--ttft", "0.01", "--itl", "0.02")
    router.configure([mortal], {"upstream": {"stream_idle_timeout_s": 1.5}})
    client = connect(router)
    told = Told()
    asking = asyncio.create_task(stream(client, greedy(max_tokens=40), told=told))
    await eventually(lambda: told.num_parts > 3, "the stream to run")
    router.add(workers[0])
    router.wait_status(workers[0], "ready")
    mortal.stop()
    await asking
    assert told.is_whole, told.raw[-500:]
    assert len(told.text.split()) == 40
    mortal.go_on()
    until(lambda: mortal.num_running == 0, "the first worker to be left alone")
    router.remove(workers[0])


async def test_a_client_that_leaves_is_noticed_by_the_worker_at_once(
    start_workers: StartWorkers, router: Router, connect: Connect
) -> None:
    [slow] = start_workers(1, "--ttft", "0.01", "--itl", "0.05")
    router.configure([slow])
    told = Told()
    asking = asyncio.create_task(
        stream(
            connect(router), greedy(max_tokens=600), told=told, headers={"x-request-id": "leaves"}
        )
    )
    await eventually(lambda: told.num_parts > 3, "the stream to run")
    assert slow.num_running == 1
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    until(lambda: slow.num_running == 0, "the worker to be left alone")
    line = router.logged("leaves")
    assert (line["status"], line["error"]) == (200, "client_closed")
