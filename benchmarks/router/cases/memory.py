"""Memory: thousands of idle clients, streams beside them, and minutes of steady work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from statistics import linear_regression

from ..contestants import Contestant
from ..loads.closed_loop import Now, Verdict, closed_loop
from ..loads.many_clients import settle, stream_all
from ..loads.paced import paced
from ..loads.requests import chat_request
from ..running_router import RunningRouter, running
from ..stage import Figures, Stage, drive
from ..usage import pss_bytes
from ..workers import MODEL, Costs, mock_workers
from . import plans

IDLE_COSTS = Costs(ttft_s=0.05, itl_s=0.1)
IDLE_STREAM_TOKENS = 80
SETTLE_S = 1.0
MIDWAY_S = 4.0

SOAK_COSTS = Costs(ttft_s=0.02, itl_s=0.02)
SOAK_RATE = 200
SOAK_STREAMS = 32
SOAK_STREAM_TOKENS = 50
SAMPLE_EVERY_S = 2.0
LEFT_OUT = 0.25
"""Of the samples, from the beginning: caches and pools fill."""


def measure_idle(stage: Stage, contestant: Contestant) -> Figures:
    """PSS before, with idle keep-alive clients, and with streams too."""
    num_idle, num_streams = stage.sized(5000, 500), stage.sized(1000, 100)
    with (
        mock_workers(stage.programs.mock_worker, IDLE_COSTS, stage.folder) as workers,
        running(contestant, workers, stage.folder) as router,
    ):
        load = _fill(router, num_idle, num_streams)
        before, idle, streaming, num_failed = drive(load, bound_s=120)
    return {
        "before_mib": before / (1 << 20),
        "idle_mib": idle / (1 << 20),
        "streams_mib": streaming / (1 << 20),
        "idle_kib_per_connection": (idle - before) / num_idle / 1024,
        "kib_per_stream": (streaming - idle) / num_streams / 1024,
        "failed": float(num_failed),
    }


async def _fill(
    router: RunningRouter, num_idle: int, num_streams: int
) -> tuple[int, int, int, int]:
    """PSS in bytes before, idle and during the streams; how many requests failed."""
    hello = chat_request(MODEL, max_tokens=1, stream=False, headers=router.headers)
    story = chat_request(MODEL, max_tokens=IDLE_STREAM_TOKENS, stream=True, headers=router.headers)
    warm, num_warm_failed = await settle(router.ports, hello, count=64)
    before = pss_bytes(router.pids)
    sleepers, num_idle_failed = await settle(router.ports, hello, count=num_idle)
    await asyncio.sleep(SETTLE_S)
    idle = pss_bytes(router.pids)
    talkers, num_talkers_failed = await settle(router.ports, hello, count=num_streams)
    streams = asyncio.create_task(stream_all(talkers, story, timeout_s=60))
    await asyncio.sleep(MIDWAY_S)
    streaming = pss_bytes(router.pids)
    num_streams_failed = await streams
    # The sleepers are still there: a router that dropped them would be praised for its memory.
    num_gone = sum(not client.is_open for client in sleepers)
    for client in (*warm, *sleepers, *talkers):
        client.close()
    num_failed = num_warm_failed + num_idle_failed + num_talkers_failed + num_streams_failed
    return before, idle, streaming, num_failed + num_gone


def measure_soak(stage: Stage, contestant: Contestant) -> Figures:
    """Growth of PSS under a steady load of whole answers and streams."""
    duration_s = stage.soak_minutes * 60
    with (
        mock_workers(stage.programs.mock_worker, SOAK_COSTS, stage.folder) as workers,
        running(contestant, workers, stage.folder) as router,
    ):
        samples, num_failed = drive(_soak(router, duration_s), bound_s=duration_s + 60)
    return {
        "minutes": stage.soak_minutes,
        "first_mib": samples[0][1] / (1 << 20),
        "last_mib": samples[-1][1] / (1 << 20),
        "growth_kib_per_minute": growth(samples) * 60 / 1024,
        "failed": float(num_failed),
    }


async def _soak(router: RunningRouter, duration_s: float) -> tuple[list[tuple[float, int]], int]:
    """(seconds, PSS in bytes) in turn; how many requests failed."""
    samples: list[tuple[float, int]] = []
    start = time.perf_counter()

    async def sample(now: Now) -> None:
        while now() < duration_s:
            samples.append((time.perf_counter() - start, pss_bytes(router.pids)))
            await asyncio.sleep(SAMPLE_EVERY_S)

    hello = chat_request(MODEL, max_tokens=1, stream=False, headers=router.headers)
    story = plans.mock_stream(router.headers, num_tokens=SOAK_STREAM_TOKENS)
    steady, ended = await asyncio.gather(
        paced(
            router.ports, hello, rate=SOAK_RATE, warm_up_s=0, duration_s=duration_s, num_clients=32,
            on_warm=lambda: None,
        ),
        closed_loop(router.ports, [story] * SOAK_STREAMS, timeout_s=30, script=sample),
    )  # fmt: skip
    num_bad = sum(request.verdict is not Verdict.GOOD for request in ended)
    return samples, steady.num_failed + num_bad


def growth(samples: Sequence[tuple[float, int]]) -> float:
    """Bytes a second: slope of the line through the samples after the first quarter."""
    late = samples[int(len(samples) * LEFT_OUT) :]
    slope, _ = linear_regression([at for at, _ in late], [size for _, size in late])
    return slope
