from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from shoal.router.control.reload import keep_fixed, watch
from shoal.router.settings.config import RouterConfig


def config(**topics: object) -> RouterConfig:
    return msgspec.convert(topics, RouterConfig)


def test_addresses_stay_and_the_rest_changes() -> None:
    old = config(listen={"port": 1}, admin={"port": 2})
    new = config(
        listen={"port": 3, "processes": 4, "allow_open": True},
        admin={"host": "::1", "port": 2},
        drain_timeout_s=9,
    )
    kept, needs_restart = keep_fixed(old, new)
    assert kept == config(
        listen={"port": 1, "allow_open": True}, admin={"port": 2}, drain_timeout_s=9
    )
    assert needs_restart == ["listen.port", "listen.processes", "admin.host"]
    assert keep_fixed(old, old) == (old, [])


@pytest.mark.parametrize("how", ["written", "replaced", "removed", "made"])
async def test_a_change_of_a_watched_file_is_seen(tmp_path: Path, how: str) -> None:
    file = tmp_path / "config"
    if how != "made":
        file.write_text("1")
    os.symlink(file, link := tmp_path / "link")  # as Kubernetes mounts a ConfigMap
    changed = asyncio.Event()

    async def on_change() -> None:
        changed.set()

    watching = asyncio.create_task(watch(lambda: [link], on_change, interval_s=0.005))
    try:
        await asyncio.sleep(0.05)
        assert not changed.is_set()
        if how == "replaced":
            (tmp_path / "other").write_text("2")
            (tmp_path / "other").rename(file)
        elif how == "removed":
            file.unlink()
        else:
            file.write_text("22")
        await asyncio.wait_for(changed.wait(), 30)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
