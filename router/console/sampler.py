"""Looks at the router's counters every two seconds, for as long as it serves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

import structlog

from ..telemetry.snapshot import Snapshot
from .history import INTERVAL_S, History
from .samples import take

_log = structlog.get_logger(__name__)


class Counted(Protocol):
    """What a sample is made of."""

    async def snapshot(self) -> Snapshot: ...
    def endpoints(self) -> list[dict[str, Any]]: ...
    def held(self) -> dict[str, int]: ...


class Sampler:
    """Owns the history."""

    def __init__(
        self,
        router: Counted,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wall` names the moments, `monotonic` measures what lies between them."""
        self.history = History()
        self._router = router
        self._wall = wall
        self._monotonic = monotonic
        self._before: Snapshot | None = None
        self._before_at = 0.0

    @property
    def latest(self) -> Snapshot:
        """As of the last look."""
        return self._before or {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except Exception as error:  # the console loses a point, not its future
                _log.error("console.sample_failed", exc_info=error)
            await asyncio.sleep(INTERVAL_S)

    async def look(self) -> None:
        """Add what happened since the last look; the first has nothing to compare with."""
        after = await self._router.snapshot()
        now = self._monotonic()
        before, before_at = self._before, self._before_at
        self._before, self._before_at = after, now
        if before is None or now <= before_at:
            return
        self.history.add(
            take(
                before, after, self._router.endpoints(), self._router.held(),
                time=round(self._wall(), 3), span_s=now - before_at,
            )
        )  # fmt: skip
