"""200 streams at once, many of which leave in the middle: nothing is left behind."""

from __future__ import annotations

import asyncio
import random

import httpx

from tests.engine.server.conftest import LiveServer
from tests.engine.server.fake_engine import FakeEngine

NUM_STREAMS = 200


async def stream(client: httpx.AsyncClient, url: str, *, leave_after: int | None, seed: int) -> int:
    """Read a stream, to its end or until `leave_after` events; how many were read."""
    body = {"prompt": "hi", "max_tokens": 200 + seed, "stream": True, "n": 1 + seed % 2}
    num_events = 0
    async with client.stream("POST", f"{url}/v1/completions", json=body) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            num_events += line.startswith("data: ")
            if leave_after is not None and num_events >= leave_after:
                return num_events
    assert line == "" or line.endswith("[DONE]")
    return num_events


async def test_fake_engine(live_server: LiveServer) -> None:
    rng = random.Random(0)
    tasks_before = await on_loop(live_server, count_tasks())
    limits = httpx.Limits(max_connections=NUM_STREAMS)
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:
        await asyncio.gather(
            *(
                stream(
                    client,
                    live_server.url,
                    leave_after=rng.choice([None, 1, 5, 50]),
                    seed=seed,
                )
                for seed in range(NUM_STREAMS)
            )
        )
    await on_loop(live_server, until_idle(live_server.engine, tasks_before))


async def count_tasks() -> int:
    return len(asyncio.all_tasks())


async def until_idle(engine: FakeEngine, num_tasks: int) -> None:
    """Returns when the engine runs nothing and no task is left; fails after a while."""
    async with asyncio.timeout(10):
        # uvicorn's own tasks end after their requests, and nobody tells when.
        while engine.running or len(asyncio.all_tasks()) > num_tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def on_loop(server: LiveServer, work: object) -> int:
    future = asyncio.run_coroutine_threadsafe(work, server.loop)  # type: ignore[arg-type]
    return await asyncio.wrap_future(future)
