from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shoal.autoscaler.kubernetes import emptying, way_down
from shoal.autoscaler.kubernetes.api import Api, connect
from tests.autoscaler.kubernetes.bench import Bench
from tests.autoscaler.kubernetes.fake_api import FakeApi, fake_api
from tests.autoscaler.kubernetes.fake_router import FakeRouter, fake_router
from tests.kubernetes_api import kubeconfig


@pytest.fixture
async def server() -> AsyncIterator[FakeApi]:
    async with fake_api() as api:
        yield api


@pytest.fixture
async def api(server: FakeApi, tmp_path: Path) -> AsyncIterator[Api]:
    async with connect(kubeconfig(server.url, tmp_path)) as api:
        yield api


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
async def router(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeRouter]:
    monkeypatch.setattr(way_down, "POLL_S", 0.01)
    monkeypatch.setattr(way_down, "RETRY_S", 0.01)
    monkeypatch.setattr(emptying, "SETTLE_S", 0.0)
    async with fake_router() as router:
        yield router
