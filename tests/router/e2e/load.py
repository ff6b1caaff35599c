"""Clients that never stop asking, and a note of all that went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from tests.router.e2e.asking import CHAT, Told, chat_body, eventually, greedy, stream


@dataclass
class Load:
    """What has become of it so far."""

    num_good: int = 0
    failures: list[str] = field(default_factory=list)

    async def more(self, count: int) -> None:
        """Until so many more requests have been answered well (or one has failed)."""
        wanted = self.num_good + count
        await eventually(
            lambda: self.num_good >= wanted or bool(self.failures), f"{count} more answers"
        )


@asynccontextmanager
async def load(url: str, *, num_clients: int = 6, max_tokens: int = 8) -> AsyncIterator[Load]:
    """While it lasts `num_clients` ask, each one thing after the other.

    Every third keeps its connection and streams, every third keeps it and does not stream, every
    third opens a connection for each request. At the end all finish what they have begun.
    """
    state = Load()
    is_over = asyncio.Event()

    async def once(client: httpx.AsyncClient, number: int, streams: bool) -> str:
        text = f"Question {number}."
        if not streams:
            answer = await client.post(CHAT, json=chat_body(text, max_tokens=max_tokens))
            if answer.status_code != 200:
                return f"{answer.status_code} {answer.text}"
            content = answer.json()["choices"][0]["message"]["content"]
        else:
            told = await stream(client, greedy(text, max_tokens=max_tokens), told=Told())
            if not told.is_whole:
                return f"{told.status} broken: {told.is_broken} {told.raw[-300:]!r}"
            content = told.text
        return "" if len(content.split()) == max_tokens else f"short: {content}"

    async def client(kind: int) -> None:
        kept = kind % 3 != 2
        limits = httpx.Limits(max_keepalive_connections=1 if kept else 0)
        async with httpx.AsyncClient(
            base_url=url, limits=limits, timeout=20, trust_env=False, verify=False
        ) as asking:
            number = kind
            while not is_over.is_set() and not state.failures:
                number += 1
                try:
                    failure = await once(asking, number, kind % 2 == 0)
                except httpx.HTTPError as error:
                    failure = f"{type(error).__name__} {error}"
                if failure:
                    state.failures.append(f"client {kind}, kept {kept}: {failure}")
                else:
                    state.num_good += 1

    tasks = [asyncio.create_task(client(kind)) for kind in range(num_clients)]
    try:
        yield state
    finally:
        is_over.set()
        async with asyncio.timeout(30):
            await asyncio.gather(*tasks)
