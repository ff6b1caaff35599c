from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shoal.autoscaler.kubernetes.api import Api, connect
from tests.autoscaler.kubernetes.fake_api import FakeApi, fake_api, kubeconfig


@pytest.fixture
async def server() -> AsyncIterator[FakeApi]:
    async with fake_api() as api:
        yield api


@pytest.fixture
async def api(server: FakeApi, tmp_path: Path) -> AsyncIterator[Api]:
    async with connect(kubeconfig(server.url, tmp_path)) as api:
        yield api
