"""The whole worker process, with a real core process that has no model: start, drain, death."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from shoal.engine.async_engine import AsyncEngine
from shoal.engine.config import SupervisionConfig
from shoal.engine.server.run import bind, serve_engine
from shoal.engine.server.settings import ServerSettings
from shoal.errors import ConfigError, EngineUnavailable, UnsupportedModel
from tests.engine.fake_core import KILL, SLOW
from tests.engine.server.events import events_of
from tests.engine.test_async_engine import make_engine


class Worker:
    """A worker on a free port, in this process."""

    def __init__(self, *, drain_timeout_s: float = 20.0, **config: Any) -> None:
        with bind("127.0.0.1", 0) as probe:
            self.port: int = probe.getsockname()[1]
        self.is_ready = asyncio.Event()
        settings = ServerSettings(port=self.port, drain_timeout_s=drain_timeout_s)
        self.serving = asyncio.create_task(
            serve_engine(make_engine(**config), settings, on_ready=self._on_ready)
        )
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=20)

    def _on_ready(self, engine: AsyncEngine, port: int) -> None:
        assert (engine.model_name, port) == ("echo", self.port)
        self.is_ready.set()

    async def ready(self) -> Worker:
        async with asyncio.timeout(20):
            await self.is_ready.wait()
        return self

    def complete(self, prompt: list[int], **body: Any) -> asyncio.Task[httpx.Response]:
        return asyncio.create_task(
            self.client.post("/v1/completions", json={"prompt": prompt, **body})
        )

    async def until_running(self) -> None:
        """Returns when a request is in the engine."""
        line = 'vllm:num_requests_running{engine="0",model_name="echo"} 1.0'
        async with asyncio.timeout(20):
            while line not in (await self.client.get("/metrics")).text:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@pytest.fixture
async def workers() -> AsyncIterator[list[Worker]]:
    """Those put in here are ended after the test."""
    started: list[Worker] = []
    yield started
    for worker in started:
        await worker.client.aclose()
        worker.serving.cancel()
        await asyncio.wait({worker.serving})


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


async def test_listens_while_the_model_loads(workers: list[Worker]) -> None:
    worker = Worker(model="never-loads")
    workers.append(worker)
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


async def test_sigterm_lets_running_streams_end(workers: list[Worker]) -> None:
    worker = await _ready(Worker(), workers)
    answer = worker.complete([65, SLOW], max_tokens=50, stream=True)
    await worker.until_running()
    terminate()
    *chunks, done = events_of(await answer)
    assert done == "[DONE]"
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "A" * 50
    await asyncio.wait_for(worker.serving, 20)
    with pytest.raises(httpx.ConnectError):
        await worker.client.get("/health")


async def test_what_outlives_the_drain_timeout_is_told(workers: list[Worker]) -> None:
    worker = await _ready(Worker(drain_timeout_s=0.0), workers)
    answer = worker.complete([65, SLOW], max_tokens=900, stream=True)
    await worker.until_running()
    terminate()
    *_, last = events_of(await answer)
    assert last["error"]["type"] == "service_unavailable"
    await asyncio.wait_for(worker.serving, 20)


async def test_death_by_policy_ends_the_process(workers: list[Worker]) -> None:
    supervision = SupervisionConfig(on_core_crash="exit")
    worker = await _ready(Worker(supervision=supervision), workers)
    response = await worker.complete([65, KILL])
    assert response.status_code == 503
    with pytest.raises(EngineUnavailable, match="died"):
        await asyncio.wait_for(worker.serving, 20)


async def test_a_model_that_cannot_be_served_ends_it_too(workers: list[Worker]) -> None:
    worker = Worker(model="unsupported")
    workers.append(worker)
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


async def _ready(worker: Worker, workers: list[Worker]) -> Worker:
    workers.append(worker)
    return await worker.ready()
