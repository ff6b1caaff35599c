"""A whole worker in the process of the test: HTTP server, engine, and its core process."""

from __future__ import annotations

import asyncio

import httpx

from shoal.engine.async_engine import AsyncEngine
from shoal.engine.server.run import serve_engine
from shoal.engine.server.settings import ServerSettings
from tests.ports import free_port


class Worker:
    """Serves `engine` on a free port from the start; `close` ends what still runs."""

    def __init__(self, engine: AsyncEngine, *, drain_timeout_s: float = 20.0) -> None:
        self.port = free_port()
        self.engine = engine
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.AsyncClient(base_url=self.url, timeout=60)
        self._is_ready = asyncio.Event()
        settings = ServerSettings(port=self.port, drain_timeout_s=drain_timeout_s)
        self.serving = asyncio.create_task(serve_engine(engine, settings, on_ready=self._on_ready))

    def _on_ready(self, engine: AsyncEngine, port: int) -> None:
        assert (engine, port) == (self.engine, self.port)
        self._is_ready.set()

    async def ready(self) -> Worker:
        async with asyncio.timeout(60):
            await self._is_ready.wait()
        return self

    def complete(self, prompt: list[int], **body: object) -> asyncio.Task[httpx.Response]:
        return asyncio.create_task(
            self.client.post("/v1/completions", json={"prompt": prompt, **body})
        )

    async def until_num_running(self, num: int) -> None:
        """Returns when /metrics says so: it is the numbers of the last step."""
        label = f'{{engine="0",model_name="{self.engine.model_name}"}}'
        line = f"vllm:num_requests_running{label} {float(num)}"
        async with asyncio.timeout(20):
            while line not in (await self.client.get("/metrics")).text:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        await self.client.aclose()
        self.serving.cancel()
        await asyncio.wait({self.serving})
