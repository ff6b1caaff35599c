"""The whole worker process, with a real core process that has no model: start, drain, death."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from shoal.engine.config import SupervisionConfig
from shoal.engine.server.run import bind
from shoal.errors import ConfigError, EngineUnavailable, UnsupportedModel
from tests.engine.fake_core import KILL, SLOW
from tests.engine.fake_engine import make_engine
from tests.engine.server.events import events_of
from tests.engine.server.worker import Worker

StartWorker = Callable[..., Worker]


@pytest.fixture
async def start_worker() -> AsyncIterator[StartWorker]:
    """Starts workers, and ends them after the test."""
    async with contextlib.AsyncExitStack() as stack:

        def start(*, drain_timeout_s: float = 20.0, **config: Any) -> Worker:
            worker = Worker(make_engine(**config), drain_timeout_s=drain_timeout_s)
            stack.push_async_callback(worker.close)
            return worker

        yield start


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


async def test_listens_while_the_model_loads(start_worker: StartWorker) -> None:
    worker = start_worker(model="never-loads")
    async with asyncio.timeout(20):
        while True:
            try:
                response = await worker.client.get("/ready")
                break
            except httpx.ConnectError:
                await asyncio.sleep(0.02)
    assert response.status_code == 503
    refused = await worker.complete([1])
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "engine_unavailable"
    terminate()
    await asyncio.wait_for(worker.serving, 20)


async def test_sigterm_lets_running_streams_end(start_worker: StartWorker) -> None:
    worker = await start_worker().ready()
    answer = worker.complete([65, SLOW], max_tokens=50, stream=True)
    await worker.until_num_running(1)
    terminate()
    *chunks, done = events_of(await answer)
    assert done == "[DONE]"
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "A" * 50
    await asyncio.wait_for(worker.serving, 20)
    with pytest.raises(httpx.ConnectError):
        await worker.client.get("/health")


async def test_what_outlives_the_drain_timeout_is_told(start_worker: StartWorker) -> None:
    worker = await start_worker(drain_timeout_s=0.0).ready()
    answer = worker.complete([65, SLOW], max_tokens=900, stream=True)
    await worker.until_num_running(1)
    terminate()
    *_, last = events_of(await answer)
    assert last["error"]["type"] == "service_unavailable"
    await asyncio.wait_for(worker.serving, 20)


async def test_death_by_policy_ends_the_process(start_worker: StartWorker) -> None:
    supervision = SupervisionConfig(on_core_crash="exit")
    worker = await start_worker(supervision=supervision).ready()
    response = await worker.complete([65, KILL])
    assert response.status_code == 503
    with pytest.raises(EngineUnavailable, match="died"):
        await asyncio.wait_for(worker.serving, 20)


async def test_a_model_that_cannot_be_served_ends_it_too(start_worker: StartWorker) -> None:
    worker = start_worker(model="unsupported")
    with pytest.raises(UnsupportedModel):
        await asyncio.wait_for(worker.serving, 20)


def test_port_in_use_is_one_clear_line() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127.0.0.1:{port}: another process") as caught:
            bind("127.0.0.1", port)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_wrong_hosts_are_named(host: str) -> None:
    with pytest.raises(ConfigError, match=host):
        bind(host, 0)


def test_ipv6() -> None:
    with bind("::1", 0) as listener:
        assert listener.family == socket.AF_INET6
