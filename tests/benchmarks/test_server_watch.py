from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

import httpx
import pytest

from shoal.benchmarks.server_watch import ProcessTree, Watcher
from shoal.errors import ConfigError

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


async def test_counters_grow_and_gauges_are_kept(worker_url: str) -> None:
    watcher = Watcher(worker_url, every_s=0.05)
    watcher.start()
    await asyncio.sleep(0.2)
    body = {"prompt": "a b c", "max_tokens": 7}
    async with httpx.AsyncClient() as http:
        (await http.post(f"{worker_url}/v1/completions", json=body)).raise_for_status()
    seen = await watcher.stop()
    assert seen.counters["vllm:generation_tokens_total"] == 7
    running = seen.gauges["vllm:num_requests_running"]
    assert len(running.t_s) == len(running.values) >= 2
    assert running.t_s == sorted(running.t_s)
    assert seen.cpu_s is None


async def test_a_server_without_metrics_is_no_failure() -> None:
    watcher = Watcher("http://127.0.0.1:9", pid=os.getpid(), every_s=0.05)
    watcher.start()
    await asyncio.sleep(0.15)
    seen = await watcher.stop()
    assert seen.problem is not None
    assert "/metrics" in seen.problem
    assert seen.counters == {}
    assert seen.rss_bytes is not None
