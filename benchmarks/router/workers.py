"""The workers behind the routers: four mock workers in C, or four `shoal fake-worker`s."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from shoal.metrics import (
    PREFIX_CACHE_HITS,
    PREFIX_CACHE_QUERIES,
    REQUEST_SUCCESS,
    parse_prometheus_text,
)

from .processes import ServerProcess, free_ports, start_together

NUM_WORKERS = 4
MODEL = "bench-model"
MOCK_TOKENS_PER_BLOCK = 16
FAKE_SEED = 0
"""The same in all fake workers: one can go on where another stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What the workers pretend to compute."""

    ttft_s: float = 0.0
    itl_s: float = 0.0
    prefill_tokens_per_s: float | None = None
    """Of prompts, where they are not cached; None: no limit. A mock counts 16 a block."""
    cache_blocks: int = 100_000
    """A mock's blocks have 64 characters, a fake worker's 16 tokens."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One of them: its identity stays when its process is another."""

    name: str
    port: int
    process: ServerProcess

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def counts(self) -> CacheCounts:
        """What it has done since it started."""
        answer = httpx.get(f"{self.url}/metrics", timeout=5, trust_env=False)
        sums: dict[str, float] = {}
        for sample in parse_prometheus_text(answer.text):
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return CacheCounts(
            num_requests=int(sums.get(REQUEST_SUCCESS, 0)),
            num_queried_tokens=int(sums.get(PREFIX_CACHE_QUERIES, 0)),
            num_hit_tokens=int(sums.get(PREFIX_CACHE_HITS, 0)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCounts:
    """Counters of one worker."""

    num_requests: int
    num_queried_tokens: int
    num_hit_tokens: int

    def since(self, before: CacheCounts) -> CacheCounts:
        return CacheCounts(
            num_requests=self.num_requests - before.num_requests,
            num_queried_tokens=self.num_queried_tokens - before.num_queried_tokens,
            num_hit_tokens=self.num_hit_tokens - before.num_hit_tokens,
        )


@contextmanager
def mock_workers(program: Path, costs: Costs, logs: Path) -> Iterator[list[Worker]]:
    """Four mock workers while they run, ready."""
    speed = costs.prefill_tokens_per_s
    prefill_us = MOCK_TOKENS_PER_BLOCK / speed * 1e6 if speed else 0
    workers = []
    for index, port in enumerate(free_ports(NUM_WORKERS), start=1):
        name = f"w{index}"
        argv = [
            str(program), "--port", str(port), "--id", name, "--model", MODEL,
            "--ttft-ms", str(costs.ttft_s * 1e3), "--itl-ms", str(costs.itl_s * 1e3),
            "--prefill-us", str(prefill_us),
            "--cache-blocks", str(costs.cache_blocks),
        ]  # fmt: skip
        workers.append(_worker(name, port, argv, logs))
    with ExitStack() as stack:
        start_together([worker.process for worker in workers], stack)
        yield workers


@contextmanager
def fake_workers(costs: Costs, logs: Path) -> Iterator[list[Worker]]:
    """Four fake workers with equal seeds that publish KV events, while they run, ready."""
    shoal = Path(sys.executable).with_name("shoal")
    ports = free_ports(3 * NUM_WORKERS)
    workers = []
    for index in range(NUM_WORKERS):
        name = f"w{index + 1}"
        port, events, replay = ports[3 * index : 3 * index + 3]
        argv = [
            str(shoal), "fake-worker", "--port", str(port), "--served-model-name", MODEL,
            "--ttft", str(costs.ttft_s), "--itl", str(costs.itl_s), "--seed", str(FAKE_SEED),
            "--num-gpu-blocks", str(costs.cache_blocks),
            "--kv-events-endpoint", f"tcp://127.0.0.1:{events}",
            "--kv-events-replay-endpoint", f"tcp://127.0.0.1:{replay}",
        ]  # fmt: skip
        if costs.prefill_tokens_per_s is not None:
            argv += ["--prefill-tokens-per-s", str(costs.prefill_tokens_per_s)]
        workers.append(_worker(name, port, argv, logs))
    with ExitStack() as stack:
        start_together([worker.process for worker in workers], stack)
        yield workers


def _worker(name: str, port: int, argv: list[str], logs: Path) -> Worker:
    ready = httpx.Request("GET", f"http://127.0.0.1:{port}/health")
    process = ServerProcess(name, argv, ready=ready, log=logs / f"{name}.log")
    return Worker(name, port, process)
