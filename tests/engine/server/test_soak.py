"""200 streams at once, many of which leave in the middle: nothing is left behind."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import httpx
import pytest

from shoal.engine.async_engine import AsyncEngine
from shoal.engine.config import EngineConfig
from shoal.engine.sources.model_files import ModelFiles
from tests.engine.fake_engine import make_engine
from tests.engine.server.worker import Worker

NUM_STREAMS = 200


async def stream(client: httpx.AsyncClient, body: dict[str, Any], *, leave_after: int) -> bool:
    """Read a stream to its end, or leave after so many events; True if it came to its end."""
    num_events = 0
    async with client.stream("POST", "/v1/completions", json={**body, "stream": True}) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if line == "data: [DONE]":
                return True
            num_events += line.startswith("data: ")
            if num_events >= leave_after:
                return False
    raise AssertionError("the stream ended without [DONE]")


async def soak(worker: Worker, *, max_tokens: int) -> None:
    rng = random.Random(0)
    await worker.ready()
    tasks_before = len(asyncio.all_tasks())
    limits = httpx.Limits(max_connections=NUM_STREAMS)
    async with httpx.AsyncClient(base_url=worker.url, limits=limits, timeout=100) as client:
        ended = await asyncio.gather(
            *(
                stream(
                    client,
                    {
                        "prompt": [65, 66] * rng.randint(1, 40),
                        "max_tokens": rng.randint(max_tokens // 2, max_tokens),
                        "ignore_eos": True,
                        "n": rng.choice([1, 1, 1, 2]),
                    },
                    leave_after=rng.choice([1, 3, max_tokens // 4, 10 * max_tokens]),
                )
                for _ in range(NUM_STREAMS)
            )
        )
    assert 10 < sum(ended) < NUM_STREAMS - 10
    await worker.until_num_running(0)
    stats = worker.engine.stats()
    assert stats.num_requests == 0
    assert stats.scheduler.num_waiting == 0
    assert stats.scheduler.kv_cache_usage == 0.0
    await worker.client.aclose()
    async with asyncio.timeout(30):
        # uvicorn's own tasks end after their connections, and nobody tells when.
        while len(asyncio.all_tasks()) > tasks_before:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_real_scheduler_in_its_process_without_a_model() -> None:
    worker = Worker(make_engine())
    try:
        await soak(worker, max_tokens=100)
    finally:
        await worker.close()


@pytest.mark.slow
async def test_real_model(smollm2: ModelFiles) -> None:
    engine = AsyncEngine(
        EngineConfig(model=smollm2.source, num_threads=1),
        resolve=lambda model, *, progress: smollm2,
    )
    worker = Worker(engine)
    try:
        await soak(worker, max_tokens=16)
    finally:
        await worker.close()
