"""Clients that ask again as soon as they have an answer, while things happen to the servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ..http_client import Answer, Client

PAUSE_AFTER_FAILURE_S = 0.02
STAGGER_S = 0.002


class Verdict(StrEnum):
    """How one request ended."""

    GOOD = "good"
    FAILED = "failed"
    """No answer, or one that is an error."""
    CUT = "cut"
    """A stream that began, and ended early or with other words than it should have."""


@dataclass(frozen=True, slots=True)
class Ended:
    """One request. Times count from the start of the load."""

    client: int
    started_s: float
    ended_s: float
    verdict: Verdict
    detail: str
    """Status or problem of a request that was not good; for a good one whatever the judge says,
    for example the worker's name."""

    @property
    def seconds(self) -> float:
        return self.ended_s - self.started_s


@dataclass(frozen=True, slots=True)
class Plan:
    """What one client asks, and how its answers are judged."""

    request: bytes
    judge: Callable[[Answer], tuple[Verdict, str]]


Now = Callable[[], float]
"""Seconds since the start of the load."""
Script = Callable[[Now], Coroutine[Any, Any, None]]
"""What happens to the servers meanwhile."""


async def closed_loop(
    ports: Sequence[int], plans: Sequence[Plan], *, timeout_s: float, script: Script
) -> list[Ended]:
    """One client a plan until `script` has ended; its errors are raised."""
    ended: list[Ended] = []
    origin = time.perf_counter()
    going = True

    async def client(index: int, plan: Plan) -> None:
        http = Client(ports[index % len(ports)])
        await asyncio.sleep(STAGGER_S * index)
        while going:
            answer = await http.ask(plan.request, timeout_s=timeout_s)
            verdict, detail = plan.judge(answer)
            ended.append(
                Ended(index, answer.sent_at - origin, answer.ended_at - origin, verdict, detail)
            )
            if verdict is not Verdict.GOOD:
                await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
        http.close()

    async with asyncio.TaskGroup() as group:
        for index, plan in enumerate(plans):
            group.create_task(client(index, plan))
        await script(lambda: time.perf_counter() - origin)
        going = False
    return ended


def failure_detail(answer: Answer) -> str:
    """For answers that are not good: why, in a few words."""
    if answer.complete:
        return f"status {answer.status}"
    return f"{answer.problem} after {answer.num_events} events, status {answer.status}"
