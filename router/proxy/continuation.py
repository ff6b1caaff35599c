"""A stream that may have to go on at another worker: what is kept of it, and the calls it takes.

`router/failover` says whether, how and with which call; this makes the calls. While all is well it
only passes events on and keeps what was said.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from shoal.errors import StreamCut

from ..core.types import Decision, EngineKind
from ..failover.preparation import Preparation, prepare
from ..failover.recorder import Recorder
from ..failover.resume import Resume
from .fetch import FetchFailed, fetch, post
from .fleet_view import FleetEntry
from .plain_chunk import is_plain_event

if TYPE_CHECKING:
    from .exchange import Exchange

_SEARCH_S: Final = 10.0
"""How long a cut stream looks for a worker to go on."""
_SEARCH_PAUSE_S: Final = 0.1
_CALL_TIMEOUT_S: Final = 5.0


def continuation_for(exchange: Exchange, engine: EngineKind) -> Continuation | None:
    """What it takes to continue this request's stream; None: it ends with its worker."""
    admission = exchange.admission
    assert admission is not None
    config = exchange.gateway.config.failover
    if not admission.wants_stream or config.mode == "off":
        return None
    preparation = prepare(
        admission.path.decode("latin-1"),
        admission.body,
        admission.fields,
        engine=engine,
        mode=config.mode,
    )
    if preparation.method is None:
        return None
    return Continuation(
        preparation,
        Recorder(preparation, max_recorded_bytes=config.max_recorded_bytes),
        max_attempts=config.max_attempts,
    )


class Continuation:
    """Owned by an exchange from its first attempt on."""

    __slots__ = ("_max_attempts", "_num_attempts", "_preparation", "_recorder", "_resume")

    def __init__(self, preparation: Preparation, recorder: Recorder, *, max_attempts: int) -> None:
        self._preparation = preparation
        self._recorder = recorder
        self._max_attempts = max_attempts
        self._num_attempts = 0
        self._resume: Resume | None = None

    @property
    def engine(self) -> EngineKind:
        """What it was prepared for."""
        return self._preparation.engine

    @property
    def body(self) -> bytes:
        """What the first worker is sent."""
        return self._preparation.body

    @property
    def has_failed(self) -> bool:
        """The worker says in an event that it cannot go on: as good as dead."""
        if self._resume is not None:
            return self._resume.error is not None or self._resume.failed is not None
        return self._recorder.failure is not None

    @property
    def has_ended(self) -> bool:
        """The last event has been passed on."""
        return self._recorder.finished or (self._resume is not None and self._resume.finished)

    @property
    def may_go_on(self) -> bool:
        return self._recorder.is_resumable and self._num_attempts < self._max_attempts

    def feed(self, data: bytes) -> bytes:
        """What the client gets of these bytes of payload."""
        if self._resume is not None:
            return self._resume.feed(data)
        return self._recorder.feed(data)

    def keep(self, payload: bytes) -> bool:
        """Keep a chunk's payload that the client may get as it is; False: it must be looked at."""
        recorder = self._recorder
        if (
            self._resume is not None
            or recorder.has_part
            or not is_plain_event(payload, without_token_ids=recorder.strips)
        ):
            return False
        recorder.keep(payload)
        return True

    async def go_on(self, exchange: Exchange) -> None:
        """Find another worker and take the stream up there. Raises StreamCut when none can."""
        outcome: str | None = "failed"
        try:
            async with asyncio.timeout(_SEARCH_S):
                while self._num_attempts < self._max_attempts:
                    self._num_attempts += 1
                    if await self._try_once(exchange):
                        outcome = None if self._resume is None else self._resume.method
                        return
                    if self._resume is not None and self._resume.error is not None:
                        break
        except TimeoutError:
            outcome = "no_worker"
        finally:
            exchange.gateway.metrics.failovers.add(outcome or "continue")
        reason = self._resume.error if self._resume is not None else None
        raise StreamCut(f"The worker broke off, and the stream cannot go on: {reason or outcome}.")

    async def _try_once(self, exchange: Exchange) -> bool:
        """Take the stream up on one worker; False: that one cannot."""
        entry, decision = await self._worker(exchange)
        lines = exchange.admission.memo.forwarded if exchange.admission is not None else b""
        resume = Resume(self._preparation, self._recorder, engine=entry.endpoint.engine)
        self._resume = resume
        exchange.send_events(resume.take())
        while (call := resume.next_call()) is not None:
            if call.streams:
                exchange.resume_on(entry, decision, call)
                return True
            try:
                status, body = await fetch(
                    entry.pool,
                    post(entry.pool, call.path.encode(), call.body, fields=lines),
                    timeout_s=_CALL_TIMEOUT_S,
                )
            except FetchFailed:
                exchange.exclude(entry)
                return False
            resume.answer(status, body)
            exchange.send_events(resume.take())
        if resume.finished:
            exchange.end_events()
            return True
        exchange.exclude(entry)
        return False

    async def _worker(self, exchange: Exchange) -> tuple[FleetEntry, Decision]:
        gateway = exchange.gateway
        while True:
            decision = gateway.dispatcher.redirect(exchange)
            if decision.endpoint is not None:
                return gateway.fleet.entries[decision.endpoint.endpoint_id], decision
            exchange.excluded = frozenset()  # all have failed: whoever is back may try again
            await asyncio.sleep(_SEARCH_PAUSE_S)
