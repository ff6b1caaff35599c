"""The line protocol of `fake_proxy`, as a client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

PATIENCE_S = 30.0
"""For what takes a second at most on a machine that has nothing else to do."""


class Line:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Line:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def say(self, line: str) -> str:
        self._writer.write(f"{line}\n".encode())
        return await self.hear()

    async def hear(self) -> str:
        async with asyncio.timeout(PATIENCE_S):
            return (await self._reader.readline()).decode().strip()

    async def __aenter__(self) -> Line:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            return


async def ask(port: int, line: str) -> Any:
    """One question over a connection of its own; None when it was cut."""
    try:
        async with await Line.open(port) as talk:
            answer = await talk.say(line)
    except OSError:
        return None
    return json.loads(answer) if answer else None


async def eventually(look: Callable[[], Awaitable[Any]], is_it: Callable[[Any], bool]) -> None:
    """Look until it is."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_it(await look()):  # noqa: ASYNC110 - other processes set no Event
            await asyncio.sleep(0.01)


async def until(holds: Callable[[], Any]) -> Any:
    """Wait for a truth."""
    async with asyncio.timeout(PATIENCE_S):
        while not (found := holds()):  # noqa: ASYNC110 - other processes set no Event
            await asyncio.sleep(0.01)
    return found
