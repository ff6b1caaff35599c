"""Thousands of clients that have asked once and stay, and streams beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ..http_client import Answer, Client

ANSWER_TIMEOUT_S = 20.0
AT_ONCE = 64
"""Clients that connect at the same time: a crowd at the door is another test."""


async def settle(ports: Sequence[int], request: bytes, *, count: int) -> tuple[list[Client], int]:
    """So many clients with a keep-alive connection that has served one request; how many failed."""
    clients = [Client(ports[index % len(ports)]) for index in range(count)]
    door = asyncio.Semaphore(AT_ONCE)

    async def enter(client: Client) -> Answer:
        async with door:
            return await client.ask(request, timeout_s=ANSWER_TIMEOUT_S)

    answers = await asyncio.gather(*(enter(client) for client in clients))
    return clients, sum(not answer.ok for answer in answers)


async def stream_all(clients: Sequence[Client], request: bytes, *, timeout_s: float) -> int:
    """One stream on each client, all at once; how many failed."""
    answers = await asyncio.gather(
        *(client.ask(request, timeout_s=timeout_s) for client in clients)
    )
    return sum(not answer.ok for answer in answers)
