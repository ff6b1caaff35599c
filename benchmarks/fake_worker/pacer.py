"""Lets the engine's time be real time: one timer for all streams, however many there are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from .engine import FakeEngine, Sequence

OnStep = Callable[[], None]


class Pacer:
    """Owns the engine on the event loop: adds, emits on time, wakes the streams."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0.0
        self._sleepers: dict[Sequence, asyncio.Future[None]] = {}
        self.on_step: list[OnStep] = []

    def add(self, request_id: str, prompt: list[int], max_tokens: int) -> Sequence | None:
        """None when the waiting queue is full."""
        sequence = self.engine.add(
            request_id, prompt, max_tokens=max_tokens, now=time.perf_counter()
        )
        self._stepped()
        return sequence

    async def tokens(self, sequence: Sequence) -> AsyncGenerator[list[int], None]:
        """Batches of new tokens until the answer is complete. Closing it frees the sequence."""
        try:
            while not sequence.finished or sequence.pending:
                if not sequence.pending:
                    sleeper = asyncio.get_running_loop().create_future()
                    self._sleepers[sequence] = sleeper
                    await sleeper
                taken, sequence.pending = sequence.pending, []
                yield taken
        finally:
            self._sleepers.pop(sequence, None)
            if not sequence.finished:
                self.engine.abort(sequence, time.perf_counter())
                self._stepped()

    def _emit(self) -> None:
        self._timer = None
        for sequence in self.engine.emit(time.perf_counter()):
            sleeper = self._sleepers.pop(sequence, None)
            if sleeper is not None and not sleeper.done():
                sleeper.set_result(None)
        self._stepped()

    def _stepped(self) -> None:
        """Arm the timer for what is due next."""
        for hook in self.on_step:
            hook()
        due = self.engine.next_due
        if due is None:
            return
        if self._timer is not None:
            if self._armed_for <= due:
                return
            self._timer.cancel()
        self._armed_for = due
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, due - time.perf_counter()), self._emit)


async def complete(pacer: Pacer, sequence: Sequence) -> list[int]:
    """All tokens of an answer."""
    answer: list[int] = []
    async with aclosing(pacer.tokens(sequence)) as batches:
        async for batch in batches:
            answer += batch
    return answer
