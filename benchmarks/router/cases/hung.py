"""A worker that stops answering and keeps its connections: SIGSTOP, later SIGCONT.

The clients stream: only there does the first byte say that the worker lives.
"""

from __future__ import annotations

import asyncio
import signal

from ..contestants import Contestant
from ..loads.closed_loop import Now, closed_loop
from ..running_router import running
from ..stage import Figures, Stage, drive
from ..workers import Costs, mock_workers
from . import plans
from .aftermath import aftermath, back_after_s, tell

NUM_CLIENTS = 24
VICTIM = 2
COSTS = Costs(ttft_s=0.035)
"""All tokens come with the first: no stream is half way when the worker stops."""
NUM_TOKENS = 4
FIRST_BYTE_TIMEOUT_S = 1.0
REQUEST_TIMEOUT_S = 15.0
SLOW_S = 0.5
SETTLED_S = 2.5
"""From then on a router should know."""


def measure(stage: Stage, contestant: Contestant) -> Figures:
    stop_at_s, stopped_s, tail_s = 2.0, stage.lasting(6.0, 4.0), stage.lasting(5.0, 3.0)
    continued_at_s = 0.0
    with (
        mock_workers(stage.programs.mock_worker, COSTS, stage.folder) as workers,
        running(
            contestant, workers, stage.folder, first_byte_timeout_s=FIRST_BYTE_TIMEOUT_S
        ) as router,
    ):
        victim = workers[VICTIM]

        async def script(now: Now) -> None:
            nonlocal continued_at_s
            await asyncio.sleep(stop_at_s)
            victim.process.signal(signal.SIGSTOP)
            await asyncio.sleep(stopped_s)
            victim.process.signal(signal.SIGCONT)
            continued_at_s = now()
            await asyncio.sleep(tail_s)

        plan = plans.mock_stream(router.headers, num_tokens=NUM_TOKENS)
        load = closed_loop(
            router.ports, [plan] * NUM_CLIENTS, timeout_s=REQUEST_TIMEOUT_S, script=script
        )
        ended = drive(load, bound_s=90)
    tell(stage, ended)
    figures = aftermath(ended, fault_at_s=stop_at_s)
    figures["slow_later"] = float(
        sum(
            request.seconds > SLOW_S and stop_at_s + SETTLED_S < request.started_s < continued_at_s
            for request in ended
        )
    )
    back_s = back_after_s(ended, victim.name, ready_at_s=continued_at_s)
    if back_s is not None:
        figures["back_s"] = back_s
    return figures
