from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shoal.clock import VirtualClock
from shoal.router.console import sampler as module
from shoal.router.console.sampler import Sampler
from shoal.router.console.samples import ALL
from shoal.router.telemetry.snapshot import Snapshot
from tests.router.console.builders import endpoint, snapshot


class Router:
    def __init__(self) -> None:
        self.requests = 0.0
        self.error: Exception | None = None

    async def snapshot(self) -> Snapshot:
        if self.error is not None:
            raise self.error
        return snapshot(requests={("m", "200"): self.requests})

    def endpoints(self) -> list[dict[str, Any]]:
        return [endpoint()]

    def held(self) -> dict[str, int]:
        return {}


async def test_a_look_tells_what_happened_since_the_last_one() -> None:
    router, clock = Router(), VirtualClock(50.0)
    sampler = Sampler(router, wall=lambda: 1e9 + clock.now(), monotonic=clock.now)
    router.requests = 7
    await sampler.look()
    assert len(sampler.history) == 0  # 7 requests since nobody knows when
    router.requests = 10
    clock.advance(2.5)
    await sampler.look()
    (found,) = sampler.history.all()
    assert (found.time, found.span_s) == (1e9 + 52.5, 2.5)
    assert found.models[ALL].requests == 3
    await sampler.look()  # no time has passed
    assert len(sampler.history) == 1


async def test_a_failed_look_is_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.0)
    router = Router()
    router.error = RuntimeError("a fault")
    sampler = Sampler(router)
    running = asyncio.create_task(sampler.run())
    for _ in range(5):
        await asyncio.sleep(0)
    router.error = None
    async with asyncio.timeout(5):
        while not sampler.history.all():  # noqa: ASYNC110 - it sets no Event
            await asyncio.sleep(0)
    running.cancel()
