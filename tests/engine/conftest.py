from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shoal.engine.async_engine import AsyncEngine
from tests.engine.fake_engine import StartEngine, make_engine


@pytest.fixture
async def start_engine() -> AsyncIterator[StartEngine]:
    """Starts engines, and shuts them down after the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(**config: Any) -> AsyncEngine:
            engine = make_engine(**config)
            await engine.start()
            stack.push_async_callback(engine.shutdown)
            return engine

        yield start


@pytest.fixture(params=["echo", "overlaps"])
async def engine(start_engine: StartEngine, request: pytest.FixtureRequest) -> AsyncEngine:
    """One step at a time, and with the next one decided while a step runs."""
    return await start_engine(model=request.param)
