"""A model without a worker: requests are held, the demand shows, and a worker serves them."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.router.e2e.asking import CHAT, chat_body, eventually, greedy, stream
from tests.router.e2e.conftest import Connect
from tests.router.e2e.routers import Router
from tests.router.e2e.workers import FakeWorker

HELD = "shoal_router_held_requests"
QUEUED = "shoal_router_model_queued_requests"
ARRIVALS = "shoal_router_arrivals_total"
FIRST_TOKENS = "shoal_router_stream_time_to_first_token_seconds"


def asleep(**flow: Any) -> dict[str, Any]:
    return {"models": [{"name": "fake"}], "flow_control": flow}


async def test_requests_wait_for_the_first_worker(
    workers: list[FakeWorker], router: Router, connect: Connect
) -> None:
    router.configure([], asleep())
    client, before = connect(router), router.metrics()
    asking = [
        asyncio.create_task(
            client.post(
                CHAT, json=chat_body(f"{i}", max_tokens=3), headers={"x-request-id": f"held-{i}"}
            )
        )
        for i in range(3)
    ]
    streaming = asyncio.create_task(stream(client, greedy(max_tokens=3)))
    await eventually(
        lambda: router.metrics().by(HELD, "model") == {"fake": 4}, "the demand to be published"
    )
    await eventually(
        lambda: router.admin.get("/admin/endpoints").json()["held"] == {"fake": 4}, "the same there"
    )
    assert (router.metrics() - before).by(ARRIVALS, "model") == {"fake": 4}
    assert router.metrics().by(QUEUED, "model") == {}
    router.add(workers[0])
    answers = await asyncio.gather(*asking)
    assert [answer.status_code for answer in answers] == [200] * 3
    assert (await streaming).is_whole
    assert router.metrics().by(HELD, "model") == {}
    assert (router.metrics() - before).by(f"{FIRST_TOKENS}_count", "model") == {"fake": 1}
    assert all(router.logged(f"held-{i}")["queue_ms"] > 0 for i in range(3))
    router.remove(workers[0])


async def test_a_request_that_names_no_model_waits_for_the_only_one(
    workers: list[FakeWorker], router: Router, connect: Connect
) -> None:
    router.configure([], asleep())
    body = {name: value for name, value in chat_body(max_tokens=1).items() if name != "model"}
    asking = asyncio.create_task(connect(router).post(CHAT, json=body))
    await eventually(lambda: router.metrics().by(HELD, "model") == {"fake": 1}, "it to be held")
    router.add(workers[0])
    assert (await asking).status_code == 200
    router.remove(workers[0])


async def test_in_vain(router: Router, connect: Connect) -> None:
    router.configure([], asleep(hold_without_endpoint_s=0.3))
    before = router.metrics()
    answer = await connect(router).post(CHAT, json=chat_body())
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_endpoint")
    assert int(answer.headers["retry-after"]) > 0
    counted = router.metrics() - before
    assert counted.by("shoal_router_shed_total", "reason") == {"no_endpoint": 1}


async def test_so_many_are_held_and_no_more(
    workers: list[FakeWorker], router: Router, connect: Connect
) -> None:
    router.configure([], asleep(max_held=2))
    client = connect(router)
    held = [asyncio.create_task(client.post(CHAT, json=chat_body(max_tokens=1))) for _ in range(2)]
    await eventually(lambda: router.metrics().sum(HELD) == 2, "two to be held")
    answer = await client.post(CHAT, json=chat_body())
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
    assert int(answer.headers["retry-after"]) > 0
    held[0].cancel()  # a client that leaves makes room
    await eventually(lambda: router.metrics().sum(HELD) == 1, "one to be held")
    router.add(workers[0])
    assert (await held[1]).status_code == 200
    router.remove(workers[0])


async def test_an_unknown_model_is_not_waited_for(
    workers: list[FakeWorker], router: Router, connect: Connect
) -> None:
    router.configure(workers[:1])
    answer = await connect(router).post(CHAT, json={**chat_body(), "model": "nobody"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


async def test_full_workers_are_waited_for_within_bounds(
    workers: list[FakeWorker], router: Router, connect: Connect
) -> None:
    bands = [{"name": "all", "priority": 0, "max_queued": 2, "deadline_s": 2.0}]
    flow = {"adaptive_concurrency": False, "min_concurrency": 1, "max_concurrency": 1}
    router.configure(workers[:1], {"flow_control": {**flow, "bands": bands}})
    workers[0].fail("hang")
    client, before = connect(router), router.metrics()
    hung = asyncio.create_task(client.post(CHAT, json=chat_body()))
    await eventually(lambda: workers[0].num_faults() == 1, "the worker to be full")
    waiting = [asyncio.create_task(client.post(CHAT, json=chat_body())) for _ in range(2)]
    await eventually(
        lambda: router.metrics().by("shoal_router_queued_requests", "band") == {"all": 2},
        "two to wait",
    )
    assert router.metrics().by(QUEUED, "model") == {"fake": 2}
    answer = await client.post(CHAT, json=chat_body())
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
    assert int(answer.headers["retry-after"]) > 0
    for late in await asyncio.gather(*waiting):
        assert (late.status_code, late.json()["error"]["code"]) == (503, "queue_timeout")
        assert int(late.headers["retry-after"]) > 0
    hung.cancel()
    counted = router.metrics() - before
    assert counted.by("shoal_router_shed_total", "reason") == {"band_full": 1, "deadline": 2}
