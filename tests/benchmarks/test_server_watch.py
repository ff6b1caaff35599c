from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

import httpx
import pytest

import shoal
from shoal.benchmarks.result import ServerWatch
from shoal.benchmarks.server_watch import ProcessTree, Watcher
from shoal.errors import ConfigError
from tests.benchmarks.client.raw_server import raw_server

BUSY = "import time; end = time.process_time() + {s}\nwhile time.process_time() < end: pass\n"


def test_cpu_and_memory_of_a_tree() -> None:
    tree = ProcessTree.of(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", BUSY.format(s=0.3) + "input()"],
                             stdin=subprocess.PIPE)  # fmt: skip
    try:
        used_s, deadline = 0.0, time.monotonic() + 30
        while used_s < 0.25 and time.monotonic() < deadline:
            time.sleep(0.05)
            more_s, rss = tree.sample()
            used_s += more_s
    finally:
        child.communicate(b"\n")
    assert used_s >= 0.25
    assert rss > 5e6


def test_a_process_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="--pid"):
        ProcessTree.of(2**22 + 1)


async def sampled(watcher: Watcher, times: int) -> None:
    """Until it has seen the server so often."""
    async with asyncio.timeout(30):
        while len(watcher._gauges["vllm:num_requests_running"].t_s) < times:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_counters_grow_and_gauges_are_kept(worker_url: str) -> None:
    watcher = Watcher(worker_url, every_s=0.05)
    watcher.start(time.perf_counter())
    await sampled(watcher, 1)
    body = {"prompt": "a b c", "max_tokens": 7}
    async with httpx.AsyncClient() as http:
        (await http.post(f"{worker_url}/v1/completions", json=body)).raise_for_status()
    seen = await watcher.stop()
    assert seen.counters["vllm:generation_tokens_total"] == 7
    running = seen.gauges["vllm:num_requests_running"]
    assert len(running.t_s) == len(running.values) >= 2
    assert running.t_s == sorted(running.t_s)
    assert seen.cpu_s is None


async def test_counters_grow_from_the_baseline(worker_url: str) -> None:
    watcher = Watcher(worker_url)
    await watcher.baseline()
    body = {"prompt": "a b c", "max_tokens": 7}
    async with httpx.AsyncClient() as http:
        (await http.post(f"{worker_url}/v1/completions", json=body)).raise_for_status()
    watcher.start(time.perf_counter())
    await sampled(watcher, 1)
    seen = await watcher.stop()
    assert seen.counters["vllm:generation_tokens_total"] == 7


async def test_a_server_without_metrics_is_no_failure() -> None:
    watcher = Watcher("http://127.0.0.1:9", pid=os.getpid(), every_s=0.05)
    watcher.start(time.perf_counter())
    await asyncio.sleep(0.15)
    seen = await watcher.stop()
    assert seen.problem is not None
    assert "/metrics" in seen.problem
    assert seen.counters == {}
    assert seen.rss_bytes is not None


async def test_the_start_of_the_run_is_where_times_begin(worker_url: str) -> None:
    watcher = Watcher(worker_url, pid=os.getpid(), every_s=0.05)
    watcher.start(time.perf_counter() + 1.0)
    await sampled(watcher, 2)
    seen = await watcher.stop()
    times = seen.gauges["vllm:num_requests_running"].t_s
    assert times[0] == 0.0  # what was before it
    assert times[1] >= 0.05
    assert times[-1] < 60
    assert seen.version == shoal.__version__


async def test_a_run_that_never_began_was_not_watched() -> None:
    assert await Watcher("http://127.0.0.1:9").stop() == ServerWatch()


async def test_metrics_behind_a_key_and_a_proxy_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    async def handler(_number: int, writer: asyncio.StreamWriter) -> None:
        body = b"vllm:num_requests_running 3.0\n"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with raw_server(handler) as server:
        watcher = Watcher(server.url, headers={"Authorization": "Bearer k"}, every_s=0.05)
        watcher.start(time.perf_counter())
        await asyncio.sleep(0.2)
        seen = await watcher.stop()
    assert seen.gauges["vllm:num_requests_running"].values[0] == 3.0
    assert seen.version is None
    assert b"Authorization: Bearer k" in server.requests[0]


async def test_a_server_that_has_no_metrics_is_asked_once() -> None:
    async def handler(_number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    async with raw_server(handler) as server:
        watcher = Watcher(server.url, every_s=0.02)
        watcher.start(time.perf_counter())
        async with asyncio.timeout(30):
            while watcher._problem is None:  # noqa: ASYNC110 - it has no event for it
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        seen = await watcher.stop()
    assert seen.problem == f"{server.url}/metrics: answers 404"
    assert sum(b"/metrics" in request for request in server.requests) == 1
