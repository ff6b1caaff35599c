"""A fixed number of requests a second, whatever the answers do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..http_client import Client

ANSWER_TIMEOUT_S = 10.0


@dataclass(slots=True)
class PacedOutcome:
    """After the warm-up."""

    num_requests: int
    latencies_s: list[float] = field(default_factory=list)
    """From sending to the end; a request waits for a free connection before it is sent, and at
    rates far below saturation there always is one."""
    num_failed: int = 0


async def paced(
    ports: Sequence[int],
    request: bytes,
    *,
    rate: float,
    warm_up_s: float,
    duration_s: float,
    num_clients: int,
    on_warm: Callable[[], None],
) -> PacedOutcome:
    """`rate` requests a second over `num_clients` connections; `on_warm` is called in between."""
    num_warm_up = round(rate * warm_up_s)
    outcome = PacedOutcome(num_requests=round(rate * duration_s))
    queue: asyncio.Queue[int | None] = asyncio.Queue()

    async def serve(client: Client) -> None:
        while (number := await queue.get()) is not None:
            answer = await client.ask(request, timeout_s=ANSWER_TIMEOUT_S)
            if number < num_warm_up:
                continue
            if answer.ok:
                outcome.latencies_s.append(answer.seconds)
            else:
                outcome.num_failed += 1
        client.close()

    async with asyncio.TaskGroup() as group:
        for index in range(num_clients):
            group.create_task(serve(Client(ports[index % len(ports)])))
        start = time.perf_counter()
        for number in range(num_warm_up + outcome.num_requests):
            if number == num_warm_up:
                on_warm()
            await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
            queue.put_nowait(number)
        for _ in range(num_clients):
            queue.put_nowait(None)
    return outcome
