"""Work that ends when the client goes away."""

from __future__ import annotations

import asyncio
from types import TracebackType

from starlette.types import Receive


class ClientDisconnected(Exception):
    """Nobody is left to answer."""


class abort_on_disconnect:
    """Async context manager: cancels its body when the client goes, and raises ClientDisconnected.

    Works like `asyncio.timeout`, with the connection in place of the clock. Use it only after
    the whole request body was read: it drains `receive`.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("abort_on_disconnect must be used inside a task")
        self._task = task
        self._cancelling_before = task.cancelling()
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._task.cancel()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._watcher.cancel()
        if (
            self._gone
            and self._task.uncancel() <= self._cancelling_before
            and exc_type is asyncio.CancelledError
        ):
            raise ClientDisconnected from exc
