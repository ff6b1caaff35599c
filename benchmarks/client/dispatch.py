"""Starts sessions when they are due: open loop by a plan of times, closed loop by free slots."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Iterator

from shoal.benchmarks.workload.arrivals import start_times
from shoal.benchmarks.workload.plan import Workload
from shoal.errors import ConfigError

from .ahead import Ahead
from .messages import Load
from .sender import Sender, sleep_until

MAX_OPEN_SESSIONS = 20_000
"""Of one process. A server this far behind has failed the test; memory and sockets are finite."""


class TooManyOpen(ConfigError):
    """The server falls behind without bound."""


async def open_loop(sender: Sender, ahead: Ahead) -> None:
    """Start each session at its time, whatever became of those before it.

    While nothing is due, the sessions that come next are written.
    """
    async with asyncio.TaskGroup() as group:
        open_sessions = set[asyncio.Task[None]]()
        while (planned := ahead.take()) is not None:
            index, start_s, session = planned
            if len(open_sessions) >= MAX_OPEN_SESSIONS:
                raise TooManyOpen(
                    f"{MAX_OPEN_SESSIONS} sessions are under way at once: the server falls behind"
                    " without bound; lower the rate"
                )
            due = sender.origin + start_s
            while due - time.perf_counter() > 2 * ahead.slowest_s and ahead.write():  # noqa: ASYNC110
                await asyncio.sleep(0)  # streams are read between two of them
            await sleep_until(due)
            task = group.create_task(sender.run(index, session, due))
            open_sessions.add(task)
            task.add_done_callback(open_sessions.discard)


async def closed_loop(
    sender: Sender, workload: Workload, indices: Iterator[int], *, slots: int, until_s: float
) -> None:
    """Keep `slots` sessions under way until the indices or the time (from the origin) run out."""
    end = sender.origin + until_s

    async def slot() -> None:
        while time.perf_counter() < end:
            index = next(indices, None)
            if index is None:
                return
            await sender.run(index, workload.session(index), None)

    async with asyncio.TaskGroup() as group:
        for _ in range(slots):
            group.create_task(slot())


def check_ends(load: Load, workload: Workload) -> None:
    """Raises ConfigError for a run without an end."""
    if load.duration_s is None and load.num_sessions is None and workload.num_sessions is None:
        raise ConfigError("this workload has no end: give a duration or a number of requests")


def share_of_sessions(load: Load, workload: Workload, share: int, num_shares: int) -> Iterator[int]:
    """Every `num_shares`-th session index, as far as load and workload go."""
    limits = [n for n in (load.num_sessions, workload.num_sessions) if n is not None]
    if limits:
        return iter(range(share, min(limits), num_shares))
    return itertools.count(share, num_shares)


def session_times(
    load: Load, workload: Workload, *, seed: int, share: int, num_shares: int
) -> Iterator[tuple[int, float]]:
    """(index, start in seconds) of this share's sessions in an open loop.

    Every process draws all times and keeps its own: the plan is the same for any number of them.
    """
    duration_s = math.inf if load.duration_s is None else load.duration_s
    if load.arrivals is not None:
        times: Iterator[float] | None = start_times(load.arrivals, duration_s=duration_s, seed=seed)
    else:
        times = workload.start_times()
    if times is None:
        raise ConfigError("this workload has no arrival times of its own: give a rate")
    limits = [n for n in (load.num_sessions, workload.num_sessions) if n is not None]
    numbered = enumerate(times)
    for index, start_s in itertools.islice(numbered, min(limits) if limits else None):
        if start_s >= duration_s:
            return
        if index % num_shares == share:
            yield index, start_s
