"""Before the first byte a request moves to another worker, within bounds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.router.e2e.asking import CHAT, chat_body, greedy, stream
from tests.router.e2e.conftest import Connect, StartWorkers
from tests.router.e2e.processes import until
from tests.router.e2e.routers import Router
from tests.router.e2e.workers import FakeWorker

RETRIES = "shoal_router_retries_total"
HEDGES = "shoal_router_hedges_total"
IN_TURN = {"routing": {"policy": "round_robin"}}
NO_BREAKER = {
    **IN_TURN,
    "breaker": {"consecutive_failures": 1000, "failure_ratio": 1.0, "min_requests": 1000},
}
QUICK = {"upstream": {"first_byte_timeout_s": 1.0, "answer_timeout_s": 1.0}}


@pytest.mark.parametrize(
    ("fault", "reasons"),
    [
        ("error", {"status"}),
        ("overload", {"busy"}),
        ("abort", {"lost", "stale"}),  # as the connection was new or a pooled one
        ("hang", {"timeout"}),
    ],
)
async def test_a_failing_worker_is_not_noticed(
    workers: list[FakeWorker], router: Router, connect: Connect, fault: str, reasons: set[str]
) -> None:
    router.configure(workers[:2], NO_BREAKER | (QUICK if fault == "hang" else {}))
    client, before = connect(router), router.metrics()
    workers[0].fail(fault)
    for body in (chat_body(max_tokens=2), greedy(max_tokens=2)):
        for _ in range(2):  # one of two begins at the failing worker
            answer = await client.post(CHAT, json=body)
            assert answer.status_code == 200, answer.text
    retries = (router.metrics() - before).by(RETRIES, "reason")
    assert retries.keys() <= reasons
    assert sum(retries.values()) == workers[0].num_faults() >= 2


@pytest.mark.parametrize("streams", [False, True])
async def test_back_pressure_of_all_is_passed_on(
    workers: list[FakeWorker], router: Router, connect: Connect, streams: bool
) -> None:
    router.configure(workers, NO_BREAKER)
    before = router.metrics()
    for worker in workers:
        worker.fail("overload")
    answer = await connect(router).post(CHAT, json=chat_body(stream=streams))
    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == "A fault that was asked for."  # the worker's
    assert int(answer.headers["retry-after"]) == 1
    assert [worker.num_faults() for worker in workers] == [1, 1, 1]
    counted = router.metrics() - before
    assert counted.by("shoal_router_requests_total", "code") == {"503": 1}


async def test_an_error_of_two_is_the_requests_own(
    workers: list[FakeWorker], router: Router, connect: Connect
) -> None:
    router.configure(workers, NO_BREAKER)
    for worker in workers:
        worker.fail("error")
    answer = await connect(router).post(CHAT, json=chat_body())
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "fault")
    assert sum(worker.num_faults() for worker in workers) == 2


@pytest.mark.parametrize("are_pooled", [False, True])
async def test_a_request_that_kills_workers_kills_two(
    start_workers: StartWorkers, router: Router, connect: Connect, are_pooled: bool
) -> None:
    workers = start_workers(4)
    router.configure(workers, NO_BREAKER)
    client = connect(router)
    if are_pooled:  # what kills a worker looks like a connection that was closed in time
        for _ in workers:
            (await client.post(CHAT, json=chat_body(max_tokens=1))).raise_for_status()
    for worker in workers:
        worker.fail("abort")
    answer = await client.post(CHAT, json=chat_body())
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "bad_gateway")
    assert sum(worker.num_faults() for worker in workers) == (3 if are_pooled else 2)


async def test_the_budget_of_retries_bounds_them(
    workers: list[FakeWorker], router: Router, connect: Connect
) -> None:
    router.configure(workers[:2], {**NO_BREAKER, "retry": {"budget_ratio": 0.0, "budget_min": 2}})
    client, before = connect(router), router.metrics()
    workers[0].fail("error")
    codes = [(await client.post(CHAT, json=chat_body(max_tokens=1))).status_code for _ in range(8)]
    assert sorted(codes) == [200] * 6 + [500] * 2
    assert (router.metrics() - before).by(RETRIES, "reason") == {"status": 2, "no_budget": 2}


async def test_all_that_a_dead_worker_had_goes_on_elsewhere(
    start_workers: StartWorkers, router: Router, connect: Connect
) -> None:
    """Whatever the budget is: a dead worker computes nothing, so nothing is computed twice."""
    workers = start_workers(2, "--ttft", "2.5")
    router.configure(workers, {**IN_TURN, "retry": {"budget_ratio": 0.0, "budget_min": 0}})
    client = connect(router)
    before = router.metrics()
    asking = [
        asyncio.create_task(
            client.post(CHAT, json=chat_body(f"{i}", max_tokens=2, stream=bool(i % 2)))
        )
        for i in range(40)
    ]
    await asyncio.to_thread(until, lambda: workers[0].num_running == 20, "20 requests")
    workers[0].kill()
    answers = await asyncio.gather(*asking)
    assert {answer.status_code for answer in answers} == {200}
    assert (router.metrics() - before).by(RETRIES, "reason") == {"lost": 20}


async def test_a_dead_worker_is_left_at_once(
    start_workers: StartWorkers, workers: list[FakeWorker], router: Router, connect: Connect
) -> None:
    [mortal] = start_workers(1)
    router.configure([mortal, workers[0]], NO_BREAKER)
    client = connect(router)
    mortal.kill()
    for _ in range(4):
        answer = await client.post(CHAT, json=chat_body(max_tokens=2))
        assert answer.status_code == 200, answer.text
    router.wait_status(mortal, "unhealthy")
    assert (await client.post(CHAT, json=chat_body(max_tokens=2))).status_code == 200


async def test_the_second_copy_wins_and_the_first_is_cancelled(
    start_workers: StartWorkers, workers: list[FakeWorker], router: Router, connect: Connect
) -> None:
    [slow] = start_workers(1, "--ttft", "30")
    router.configure([slow, workers[0]], {**IN_TURN, "hedge": {"after_s": 1.0, "max_ratio": 1.0}})
    client, before = connect(router), router.metrics()
    for _ in range(4):
        assert (await stream(client, greedy(max_tokens=3))).is_whole
    until(lambda: slow.num_running == 0, "the slow worker to be left alone")
    assert (router.metrics() - before).by(HEDGES, "outcome") == {"sent": 2, "won": 2}


async def test_hedges_have_a_budget(
    start_workers: StartWorkers, workers: list[FakeWorker], router: Router, connect: Connect
) -> None:
    [slow] = start_workers(1, "--ttft", "0.4")
    hedge: dict[str, Any] = {"after_s": 0.05, "max_ratio": 0.25}
    router.configure([slow, workers[0]], {**IN_TURN, "hedge": hedge})
    client, before = connect(router), router.metrics()
    for _ in range(6):
        assert (await stream(client, greedy(max_tokens=3))).is_whole
    assert (router.metrics() - before).sum(HEDGES, outcome="sent") == 1
