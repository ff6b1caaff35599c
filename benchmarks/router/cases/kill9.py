"""kill -9 of one of four workers under 24 clients, and its return."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ..contestants import Contestant
from ..loads.closed_loop import Ended, Now, Plan, closed_loop
from ..running_router import RunningRouter, running
from ..stage import Figures, Stage, drive
from ..workers import Costs, fake_workers, mock_workers
from . import plans
from .aftermath import aftermath, back_after_s, tell

NUM_CLIENTS = 24
VICTIM = 2
WHOLE_COSTS = Costs(ttft_s=0.02, itl_s=0.005)
WHOLE_TOKENS = 4
STREAM_COSTS = Costs(ttft_s=0.02, itl_s=0.02, cache_blocks=65_536)
STREAM_TOKENS = 60
"""1.2 s a stream: a quarter of the clients are on the victim when it dies."""
REQUEST_TIMEOUT_S = 15.0


def measure_whole(stage: Stage, contestant: Contestant) -> Figures:
    """Whole answers of mock workers."""
    with (
        mock_workers(stage.programs.mock_worker, WHOLE_COSTS, stage.folder) as workers,
        running(contestant, workers, stage.folder) as router,
    ):
        plan = plans.whole(router.headers, num_tokens=WHOLE_TOKENS)
        return _kill_and_restart(stage, router, [plan] * NUM_CLIENTS)


def measure_streams(stage: Stage, contestant: Contestant) -> Figures:
    """Greedy streams of fake workers: one could end what another began, word for word."""
    with (
        fake_workers(STREAM_COSTS, stage.folder) as workers,
        running(contestant, workers, stage.folder) as router,
    ):
        asked = [
            plans.fake_stream(router.headers, num_tokens=STREAM_TOKENS, client=client)
            for client in range(NUM_CLIENTS)
        ]
        return _kill_and_restart(stage, router, asked)


def _kill_and_restart(stage: Stage, router: RunningRouter, asked: Sequence[Plan]) -> Figures:
    kill_at_s, down_s, tail_s = (2.0, 2.0, 4.0) if stage.quick else (3.0, 5.0, 6.0)
    victim = router.workers[VICTIM]
    ready_at_s = 0.0

    async def script(now: Now) -> None:
        nonlocal ready_at_s
        await asyncio.sleep(kill_at_s)
        victim.process.kill()
        await asyncio.sleep(down_s)
        victim.process.start()
        await asyncio.to_thread(victim.process.wait_until_ready)
        ready_at_s = now()
        await asyncio.sleep(tail_s)

    load = closed_loop(router.ports, asked, timeout_s=REQUEST_TIMEOUT_S, script=script)
    ended: list[Ended] = drive(load, bound_s=90)
    tell(stage, ended)
    figures = aftermath(ended, fault_at_s=kill_at_s)
    back_s = back_after_s(ended, victim.name, ready_at_s=ready_at_s)
    if back_s is not None:
        figures["back_s"] = back_s
    return figures
