"""The collector before a real router and a worker: what was asked is what is observed."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from shoal.autoscaler.collect.collector import HttpCollector
from shoal.autoscaler.collect.fetch import open_client
from shoal.autoscaler.core.observation import Observation
from shoal.autoscaler.core.spec import ScalingSpec, SloSpec
from shoal.autoscaler.policy import ScalingPolicy
from shoal.autoscaler.target import Replicas
from tests.router.e2e.asking import CHAT, chat_body, eventually, greedy, stream
from tests.router.e2e.processes import Nursery
from tests.router.e2e.routers import Router
from tests.router.e2e.workers import FakeWorker

REPLICAS = {"default": Replicas(desired=1, ready=1)}
NUM_STREAMS, NUM_WHOLE, NUM_TOKENS = 12, 3, 6


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    with (
        tempfile.TemporaryDirectory(prefix="shoal-collect-") as folder,
        closing(Nursery(Path(folder))) as nursery,
    ):
        yield nursery


async def test_what_was_asked_is_what_is_seen(nursery: Nursery) -> None:
    asleep = {"models": [{"name": "fake"}]}
    with (
        closing(FakeWorker(nursery, "--ttft", "0.02", "--itl", "0.005")) as worker,
        closing(Router(nursery, config=asleep)) as router,
    ):
        worker.wait_ready()
        policy = ScalingPolicy(model="fake", spec=ScalingSpec(slo=SloSpec(ttft_s=5.0)))
        async with (
            open_client() as client,
            httpx.AsyncClient(base_url=router.url, timeout=30, trust_env=False) as user,
        ):
            collector = HttpCollector(
                policy, client, router_urls=[f"http://127.0.0.1:{router.admin_port}"]
            )

            async def look(now: float) -> Observation:
                return await collector.observe(REPLICAS, now)

            assert (await look(0.0)).arrivals is None
            # Nobody is there: requests are held, and whoever watches is told at once.
            watching = asyncio.create_task(collector.held(30.0))
            asking = [
                asyncio.create_task(stream(user, greedy(max_tokens=NUM_TOKENS)))
                for _ in range(NUM_STREAMS)
            ]
            async with asyncio.timeout(30):
                assert await watching > 0
            await eventually(
                lambda: router.metrics().sum("shoal_router_held_requests") == NUM_STREAMS,
                "all to be held",
            )
            seen = await look(5.0)
            assert (seen.arrivals, seen.held, seen.queued) == (NUM_STREAMS, NUM_STREAMS, 0)
            # A worker comes, and has nothing to do until it is known.
            router.add(worker)
            assert all(answer.is_whole for answer in await asyncio.gather(*asking))
            seen = await look(10.0)
            assert (seen.arrivals, seen.held) == (0, 0)
            # What it does from now on is seen as it is.
            asking = [
                asyncio.create_task(stream(user, greedy(max_tokens=NUM_TOKENS)))
                for _ in range(NUM_STREAMS)
            ]
            for _ in range(NUM_WHOLE):
                await user.post(CHAT, json=chat_body(max_tokens=NUM_TOKENS))
            await asyncio.gather(*asking)
            seen = await look(15.0)
    [variant] = seen.variants
    num_requests = NUM_STREAMS + NUM_WHOLE
    assert seen.arrivals == num_requests
    assert seen.output_tokens == num_requests * NUM_TOKENS
    assert seen.input_tokens is not None
    assert seen.input_tokens > 0
    assert variant.output_tokens_per_s == num_requests * NUM_TOKENS / 5.0
    assert (variant.num_first_tokens, variant.num_in_time) == (num_requests, num_requests)
    assert variant.num_finished == num_requests
    assert variant.tpot_s is not None
    assert 0.004 < variant.tpot_s < 1.0
    assert variant.num_running == pytest.approx(
        variant.tpot_s * num_requests * (NUM_TOKENS - 1) / 5.0, rel=0.01
    )  # each request's time between its first and its last token
    assert (variant.num_waiting, variant.kv_usage is not None) == (0, True)
