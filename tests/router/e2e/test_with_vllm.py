"""Two real vLLM servers (CPU) behind the router: `make test-router-slow` installs what it needs.

A server takes about a minute to start, and each is started once, unless a test has killed it.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from shoal.benchmarks.peers import commands
from shoal.benchmarks.peers.folder import PeersFolder
from shoal.benchmarks.peers.running import last_lines, stop_group
from tests.ports import free_port
from tests.router.e2e.asking import CHAT, COMPLETIONS, Told, eventually, stream
from tests.router.e2e.conftest import Connect
from tests.router.e2e.processes import until
from tests.router.e2e.routers import Router

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MODEL = commands.SERVED_NAME
START_S = 400.0
PEERS = PeersFolder()
BLOCK = 128
"""Tokens of a KV block of vLLM on a CPU."""


class VLLMServer:
    """On ports that it keeps."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._port, self._events, self._replay = free_port(), free_port(), free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._process = self._start()

    @property
    def endpoint(self) -> dict[str, Any]:
        """As discovery lists it."""
        return {
            "url": self.url,
            "kv_events": f"tcp://*:{self._events}",
            "kv_events_replay": f"tcp://*:{self._replay}",
        }

    def _start(self) -> subprocess.Popen[bytes]:
        # float32 on every processor: then the same text comes whatever else is in the batch.
        command = commands.vllm(PEERS, features=frozenset())
        events = {
            "enable_kv_cache_events": True,
            "publisher": "zmq",
            "endpoint": f"tcp://*:{self._events}",
            "replay_endpoint": f"tcp://*:{self._replay}",
        }
        argv = [part.replace("{port}", str(self._port)) for part in command.argv]
        argv += ["--max-model-len", "2048", "--max-num-seqs", "16"]
        argv += ["--enable-prompt-tokens-details", "--kv-events-config", json.dumps(events)]
        env = {**os.environ, **command.env, "VLLM_CPU_KVCACHE_SPACE": "1"}
        with self._log.open("ab") as log:
            return subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                start_new_session=True,
            )  # fmt: skip

    def is_ready(self) -> bool:
        assert self._process.poll() is None, last_lines(self._log)
        try:
            answer = httpx.get(f"{self.url}/health", timeout=5, verify=False, trust_env=False)
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    def wait_ready(self) -> None:
        """Started again if it was killed."""
        if self._process.poll() is not None:
            self._process = self._start()
        until(self.is_ready, f"vLLM to start: {self._log}", START_S)

    def kill(self) -> None:
        """kill -9 of all its processes."""
        os.killpg(self._process.pid, 9)
        self._process.wait(30)

    def close(self) -> None:
        if self._process.poll() is None:
            stop_group(self._process)


@pytest.fixture(scope="module")
def pair_of_vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[VLLMServer]]:
    if not (PEERS.vllm_python.exists() and PEERS.hf_model.exists()):
        pytest.skip("needs vLLM: python -m shoal.benchmarks.peers.install vllm")
    folder = tmp_path_factory.mktemp("vllm")
    with ExitStack() as stack:
        yield [
            stack.enter_context(closing(VLLMServer(folder / f"{number}.log")))
            for number in range(2)
        ]


@pytest.fixture
def servers(pair_of_vllm: list[VLLMServer]) -> list[VLLMServer]:
    """Both ready, whatever the test before did to them."""
    for server in pair_of_vllm:
        server.wait_ready()
    return pair_of_vllm


@pytest.fixture
def vllm(servers: list[VLLMServer], router: Router) -> list[VLLMServer]:
    """The same, with the router in front of them."""
    endpoints = [server.endpoint for server in servers]
    router.configure((), {"discovery": {"static": endpoints}})
    return servers


def story(about: str, **fields: Any) -> dict[str, Any]:
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": f"Tell me a story about {about}."}],
        "max_tokens": 40,
        "temperature": 0,
        **fields,
    }


def streamed(about: str, **fields: Any) -> dict[str, Any]:
    return story(about, stream=True, stream_options={"include_usage": True}, **fields)


async def test_answers_are_passed_on(
    vllm: list[VLLMServer], router: Router, connect: Connect
) -> None:
    for endpoint in router.endpoints().values():
        assert (endpoint["engine"], endpoint["models"]) == ("vllm", [MODEL])
        assert (endpoint["kv_block_size"], endpoint["num_cache_tokens"] > 0) == (BLOCK, True)
    client = connect(router)
    whole = await client.post(CHAT, json=story("a fox"))
    text = whole.json()["choices"][0]["message"]["content"]
    told = await stream(client, streamed("a fox"))
    assert told.is_whole
    assert told.text == text
    assert told.roles == ["assistant"]
    assert told.usages[-1]["completion_tokens"] == 40
    assert b"token_ids" not in told.raw, "they were asked for by the router, not by the client"
    asked = await stream(client, streamed("a fox", return_token_ids=True))
    assert asked.text == text
    assert b'"prompt_token_ids":[' in asked.raw
    prompt = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
    completion = await client.post(COMPLETIONS, json=prompt)
    told = await stream(client, {**prompt, "stream": True}, COMPLETIONS)
    assert told.text == completion.json()["choices"][0]["text"]
    # Its own routes, and its errors.
    tokens = (await client.post("/tokenize", json={"model": MODEL, "prompt": "Once"})).json()
    assert tokens["count"] == len(tokens["tokens"]) > 0
    wrong = await client.post(CHAT, json=story("a fox", max_tokens=100_000))
    assert wrong.status_code == 400


async def test_streams_survive_the_death_of_a_server(
    vllm: list[VLLMServer], router: Router, connect: Connect
) -> None:
    sampled = {"temperature": 1.0}
    bodies = [
        streamed("a fox"), streamed("the sea"),
        streamed("a fox", seed=7, **sampled), streamed("the sea", seed=8, **sampled),
    ]  # fmt: skip
    async with httpx.AsyncClient(
        base_url=vllm[1].url, timeout=120, verify=False, trust_env=False
    ) as direct:
        expected = [await stream(direct, body) for body in bodies]
    before = router.metrics()
    client = connect(router)
    tolds = [Told() for _ in bodies]
    asking = [
        asyncio.create_task(stream(client, body, told=told))
        for body, told in zip(bodies, tolds, strict=True)
    ]
    await eventually(lambda: all(told.num_parts > 8 for told in tolds), "all to run", 120)
    vllm[0].kill()
    await asyncio.gather(*asking)
    for told, whole in zip(tolds, expected, strict=True):
        assert told.is_whole, told.raw[-500:]
        assert told.text == whole.text
        for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
            assert told.usages[-1][name] == whole.usages[-1][name]
        assert b'token_ids":[' not in told.raw  # null is vLLM's own word, where none were asked for
    outcomes = (router.metrics() - before).by("shoal_router_failovers_total", "outcome")
    # Greedy ones are continued; vLLM's random numbers begin anew, so seeded ones are replayed.
    assert outcomes.keys() <= {"continue", "replay"}
    assert sum(outcomes.values()) >= 1


async def test_its_kv_events_say_what_is_cached(
    servers: list[VLLMServer], router: Router, connect: Connect
) -> None:
    static = [server.endpoint for server in servers]
    router.configure((), {"discovery": {"static": static}, "routing": {"policy": "prefix_exact"}})
    await eventually(
        lambda: all(e["kv_block_size"] == BLOCK for e in router.endpoints().values()), "events"
    )
    client = connect(router)
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "List the planets, and say a word about each. " * 40}
    ]
    for turn in range(4):
        body = {**story(""), "messages": messages}
        answer = await client.post(CHAT, json=body, headers={"x-request-id": f"vllm-{turn}"})
        cached = answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
        [decision] = [d for d in router.decisions(9) if d["request_id"] == f"vllm-{turn}"]
        assert decision["num_cached_tokens"] == cached
        assert (cached >= 384) is (turn > 0)
        messages += [
            answer.json()["choices"][0]["message"],
            {"role": "user", "content": "Go on with the next ones. " * 10},
        ]
        await asyncio.sleep(0.5)  # its events arrive
