"""Many streams at once, each client one after another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ..http_client import Answer, Client


@dataclass(slots=True)
class StreamsOutcome:
    """Of all streams."""

    ttfts_s: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    """Between reads that brought tokens: tokens that come together count as one read."""
    num_tokens: int = 0
    num_dropped: int = 0
    """Streams that failed or ended early."""


async def streams(
    ports: Sequence[int],
    request: bytes,
    *,
    num_clients: int,
    num_rounds: int,
    num_tokens: int,
    spread_s: float,
    timeout_s: float,
) -> StreamsOutcome:
    """`num_clients` times `num_rounds` streams of `num_tokens`; clients begin over `spread_s`."""
    outcome = StreamsOutcome()

    async def follow(index: int) -> None:
        client = Client(ports[index % len(ports)])
        await asyncio.sleep(spread_s * index / num_clients)
        for _ in range(num_rounds):
            note(await client.ask(request, timeout_s=timeout_s))
        client.close()

    def note(answer: Answer) -> None:
        if not answer.ok or answer.num_events < num_tokens:
            outcome.num_dropped += 1
            return
        outcome.num_tokens += num_tokens
        outcome.ttfts_s.append(answer.event_times[0] - answer.sent_at)
        outcome.gaps_s.extend(later - earlier for earlier, later in pairwise(answer.event_times))

    async with asyncio.TaskGroup() as group:
        for index in range(num_clients):
            group.create_task(follow(index))
    return outcome
