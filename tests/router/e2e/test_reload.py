"""Settings and keys change in a running router, and streams do not notice."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

from tests.router.e2e.asking import CHAT, Told, chat_body, eventually, greedy, stream
from tests.router.e2e.conftest import Connect, StartWorkers
from tests.router.e2e.processes import Nursery
from tests.router.e2e.routers import Router
from tests.router.e2e.workers import FakeWorker


async def test_a_reload_is_followed_and_streams_go_on(
    start_workers: StartWorkers, workers: list[FakeWorker], router: Router, connect: Connect
) -> None:
    [slow] = start_workers(1, "--ttft", "0.02", "--itl", "0.02")
    router.configure([slow])
    client = connect(router)
    told = Told()
    asking = asyncio.create_task(stream(client, greedy(max_tokens=40), told=told))
    await eventually(lambda: told.num_parts > 3, "the stream to run")
    models = [{"name": "fake", "aliases": ["alias"]}]
    router.configure(workers[:1], {"models": models, "routing": {"policy": "random"}})
    assert (await client.post(CHAT, json={**chat_body(), "model": "alias"})).status_code == 200
    [decision] = router.decisions(1)
    assert (decision["policy"], decision["endpoint"]) == ("random", workers[0].url)
    assert not told.num_done
    await asking
    assert told.is_whole


async def test_a_mistake_changes_nothing(
    workers: list[FakeWorker], router: Router, connect: Connect
) -> None:
    router.configure(workers[:1], {"routing": {"policy": "random"}})
    before = router.admin.get("/admin/config").json()
    for wrong, why in (
        ({"routing": {"policy": "nonsense"}}, "routing.policy: 'nonsense' is not one of"),
        ({"ruoting": {}}, "did you mean routing?"),
        ({"auth": {"keys_file": "/nowhere/keys.yaml"}}, "/nowhere/keys.yaml"),
    ):
        router.write(router.settings([], wrong))
        answer = router.admin.post("/admin/reload")
        assert answer.status_code == 400
        assert why in answer.json()["error"]["message"]
    refused = router.program.said().count("config.refused")
    router.program.signal(signal.SIGHUP)  # the same by signal: it is logged
    await eventually(lambda: router.program.said().count("config.refused") > refused, "the log")
    assert router.admin.get("/admin/config").json() == before
    assert (await connect(router).post(CHAT, json=chat_body(max_tokens=1))).status_code == 200


async def test_keys_come_and_go(
    workers: list[FakeWorker], router: Router, nursery: Nursery, connect: Connect, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.yaml"
    first = new_key(nursery, keys, "first")
    auth = {"auth": {"keys_file": str(keys)}}
    router.configure(workers[:1], auth)
    client = connect(router)

    async def status(key: str | None, **body: Any) -> int:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        answer = await client.post(CHAT, json={**chat_body(max_tokens=1), **body}, headers=headers)
        return answer.status_code

    assert await status(None) == 401
    assert await status("sk-wrong") == 401
    assert await status(first) == 200
    second = new_key(nursery, keys, "second", "--model", "other")
    assert await status(second) == 401, "nobody has read the file again"
    router.configure(workers[:1], auth)
    assert await status(second) in (403, 404)
    assert await status(first) == 200
    assert nursery.run("keys", "remove", "--file", str(keys), "--name", "first")
    router.configure(workers[:1], auth)
    assert await status(first) == 401
    assert router.program.said().count(first) == 0


def new_key(nursery: Nursery, file: Path, name: str, *options: str) -> str:
    """By `shoal keys add`, which prints it."""
    said = nursery.run("keys", "add", "--file", str(file), "--name", name, *options)
    return next(word for word in said.split() if word.startswith("sk-"))
