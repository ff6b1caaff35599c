"""Planned restarts under load: all workers one by one, the router itself. Nothing may be lost."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping

from ..contestants import Contestant
from ..loads.closed_loop import Now, Plan, closed_loop
from ..running_router import running
from ..stage import Figures, Stage, drive
from ..workers import Costs, mock_workers
from . import plans
from .aftermath import aftermath, tell

NUM_CLIENTS = 24
COSTS = Costs(ttft_s=0.02, itl_s=0.01)
WHOLE_TOKENS = 4
STREAM_TOKENS = 40
CALM_S = 1.0
PAUSE_S = 2.0
"""Between two workers: twice the interval of health checks."""
DRAIN_TIMEOUT_S = 15.0
REQUEST_TIMEOUT_S = 15.0


def measure_workers(stage: Stage, contestant: Contestant) -> Figures:
    """SIGTERM: a worker takes nothing new, ends what runs, and is started again."""
    with (
        mock_workers(stage.programs.mock_worker, COSTS, stage.folder) as workers,
        running(contestant, workers, stage.folder) as router,
    ):

        async def script(now: Now) -> None:
            await asyncio.sleep(CALM_S)
            for worker in workers:
                worker.process.signal(signal.SIGTERM)
                await asyncio.to_thread(worker.process.wait_until_ended, DRAIN_TIMEOUT_S)
                worker.process.start()
                await asyncio.to_thread(worker.process.wait_until_ready)
                await asyncio.sleep(PAUSE_S)

        load = closed_loop(
            router.ports, mixed(router.headers), timeout_s=REQUEST_TIMEOUT_S, script=script
        )
        ended = drive(load, bound_s=120)
    tell(stage, ended)
    return aftermath(ended, fault_at_s=CALM_S)


def measure_router(stage: Stage, contestant: Contestant) -> Figures:
    """The router gives way to a new one, again and again."""
    num_times = stage.sized(3, 1)
    with (
        mock_workers(stage.programs.mock_worker, COSTS, stage.folder) as workers,
        running(contestant, workers, stage.folder) as router,
    ):

        async def script(now: Now) -> None:
            await asyncio.sleep(CALM_S)
            for _ in range(num_times):
                await asyncio.to_thread(router.replace)
                await asyncio.sleep(PAUSE_S)

        load = closed_loop(
            router.ports, mixed(router.headers), timeout_s=REQUEST_TIMEOUT_S, script=script
        )
        ended = drive(load, bound_s=180)
    tell(stage, ended)
    return {**aftermath(ended, fault_at_s=CALM_S), "replacements": float(num_times)}


def mixed(headers: Mapping[str, str]) -> list[Plan]:
    """Half of the clients want whole answers, half streams."""
    whole = plans.whole(headers, num_tokens=WHOLE_TOKENS)
    stream = plans.mock_stream(headers, num_tokens=STREAM_TOKENS)
    return [whole, stream] * (NUM_CLIENTS // 2)
