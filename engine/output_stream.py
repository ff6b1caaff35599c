"""The way of one request's outputs from the dispatcher of steps to its consumer."""

from __future__ import annotations

import asyncio

from shoal.errors import RequestError

from .output import RequestOutput


class OutputStream:
    """A mailbox for one output: what a slow consumer has not taken yet grows by what follows.

    So a consumer that stalls costs one delta, not a queue, and is woken at most once a step.
    """

    def __init__(self) -> None:
        self._pending: RequestOutput | None = None
        self._error: RequestError | None = None
        self._waiter: asyncio.Future[None] | None = None

    def put(self, output: RequestOutput) -> None:
        self._pending = output if self._pending is None else self._pending.followed_by(output)
        self._wake()

    def fail(self, error: RequestError) -> None:
        """End the stream: `get` raises this, after what is pending."""
        self._error = error
        self._wake()

    async def get(self) -> RequestOutput:
        """The next output; for one consumer at a time."""
        while self._pending is None:
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        output, self._pending = self._pending, None
        return output

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
