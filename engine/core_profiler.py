"""Profiles of the engine core, asked for from the API process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from shoal.errors import EngineUnavailable, InvalidRequest

from . import protocol

ANSWER_TIMEOUT_S = 300.0
"""A trace of some minutes takes as long to write."""


class CoreProfiler:
    """Asks, and waits for the answer: one call at a time, in the order of the calls."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._turn = asyncio.Lock()
        self._answer: asyncio.Future[protocol.Profiled] | None = None

    async def start(self) -> None:
        """Begin a profile. Raises InvalidRequest if one is being taken, EngineUnavailable if the
        core does not answer."""
        await self._ask(is_start=True)

    async def stop(self) -> str:
        """End it; the path of the trace. Raises as `start`, and if none is being taken."""
        return await self._ask(is_start=False)

    async def _ask(self, *, is_start: bool) -> str:
        async with self._turn:
            self._answer = asyncio.get_running_loop().create_future()
            try:
                self._send(protocol.encode(protocol.Profile(is_start)))
                answer = await asyncio.wait_for(self._answer, ANSWER_TIMEOUT_S)
            except TimeoutError:
                raise EngineUnavailable(
                    f"The engine core did not answer within {ANSWER_TIMEOUT_S:g} s."
                ) from None
            finally:
                self._answer = None
        if answer.error:
            raise InvalidRequest(f"Profiling: {answer.error}.")
        return answer.path

    def on_answer(self, message: protocol.Profiled) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(message)

    def on_lost(self, why: str) -> None:
        """The core is gone, and the profile with it."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(EngineUnavailable(f"The profile is lost: {why}."))
