"""Where requests wait, and what lets them go on."""

from __future__ import annotations

import asyncio

from shoal.router.core.types import BreakerState
from shoal.router.settings.protection import BreakerConfig, FlowControlConfig
from shoal.router.settings.routing import ModelConfig, SplitArm
from tests.router.proxy.conftest import RunRouter, RunWorker
from tests.router.proxy.raw_client import post, until
from tests.router.proxy.raw_worker import OK, WorkerConnection, answering
from tests.router.proxy.running_router import record

ONE_AT_A_TIME = FlowControlConfig(adaptive_concurrency=False, min_concurrency=1, max_concurrency=1)
CANARIES = ModelConfig(name="m", split=(SplitArm(weight=1, selector={"version": "canary"}),))
"""All requests want a worker with that label."""


async def test_what_waits_goes_to_the_only_worker_it_has_though_its_breaker_is_open(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    """Of two workers the breaker may take one out, and for this split there is no other."""
    go_on = asyncio.Event()

    async def script(connection: WorkerConnection) -> None:
        while True:
            await connection.request()
            await go_on.wait()
            await connection.send(OK)

    canary, other = await run_worker(script), await run_worker()
    router = await run_router(
        record(other.url),
        record(canary.url, version="canary"),
        models=(CANARIES,),
        flow_control=ONE_AT_A_TIME,
        breaker=BreakerConfig(consecutive_failures=1, open_s=1000.0, max_open_s=1000.0),
    )
    gateway = router.gateway
    running, waiting = await router.client(), await router.client()
    running.send(post())
    await until(lambda: canary.requests)
    waiting.send(post())
    await until(lambda: len(gateway.dispatcher.queue) == 1)

    gateway.experience.board.failure(canary.url, gateway.now())
    gateway.experience.refresh_breakers(gateway.now())
    assert gateway.fleet.entries[canary.url].state.breaker is BreakerState.OPEN
    go_on.set()
    assert (await running.answer()).status == 200
    assert (await waiting.answer()).status == 200
    assert not other.requests


async def test_an_error_is_passed_on_where_no_other_worker_has_the_labels(
    run_worker: RunWorker, run_router: RunRouter
) -> None:
    error = b"HTTP/1.1 500 Error\r\nContent-Length: 2\r\n\r\n{}"
    canary, other = await run_worker(answering(error)), await run_worker()
    router = await run_router(
        record(other.url), record(canary.url, version="canary"), models=(CANARIES,)
    )
    client = await router.client()
    assert (await client.ask(post())).status == 500
    assert len(canary.requests) == 1
    assert not other.requests
