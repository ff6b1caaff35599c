"""What watching a fleet costs the router's state process: python -m shoal.benchmarks.fleet_cost

In CPU time. Workers are one process with a port each that answers from memory, so that the machine
is the router's. The last line is JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import cast

import msgspec
import structlog
import uvloop

from shoal.clock import MonotonicClock
from shoal.router.fleet.fleet import Fleet
from shoal.router.fleet.kv_feed import KVFeed
from shoal.router.fleet.scrape import PageReader
from shoal.router.messages import EndpointRecord
from shoal.router.settings.config import RouterConfig
from shoal.router.settings.discovery import DiscoveryConfig, StaticEndpoint
from shoal.router.settings.protection import HealthConfig

WARM_UP_S = 3.0
MEASURE_S = 10.0
PAGE_BYTES = 110_000
"""A vLLM server with its histograms has as much."""
BLOCK_SIZE = 16
CASES = ((100, False), (100, True), (1000, True))
"""Endpoints, and whether their metrics are scraped."""


def metrics_page(num_bytes: int) -> bytes:
    """Shaped as vLLM's: gauges, then many histograms, then what is found last."""
    lines = [
        "process_start_time_seconds 1.0",
        'vllm:num_requests_running{engine="0",model_name="m"} 3.0',
        'vllm:num_requests_waiting{engine="0",model_name="m"} 1.0',
        'vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.5',
    ]
    size, family = 0, 0
    while size < num_bytes:
        name = f"vllm:histogram_{family}_seconds"
        new = [f"# TYPE {name} histogram"]
        new += [f'{name}_bucket{{engine="0",le="{le}",model_name="meta-llama/L"}} {le}.0'
                for le in range(25)]  # fmt: skip
        lines += new
        size += sum(len(line) + 1 for line in new)
        family += 1
    lines += [
        'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="1000"} 1.0',
        'vllm:generation_tokens_total{engine="0"} 5.0',
    ]
    return ("\n".join(lines) + "\n").encode()


class _Answers(asyncio.Protocol):
    """Answers each GET from memory."""

    bodies: dict[bytes, bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has no common base

    def data_received(self, data: bytes) -> None:
        body = self.bodies[data.split(b" ", 2)[1]]
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


async def serve(num_workers: int) -> None:
    """Listen on so many ports, print them, answer until killed."""
    cards = {"data": [{"id": "m", "owned_by": "vllm"}]}
    _Answers.bodies = {
        b"/health": b"",
        b"/metrics": metrics_page(PAGE_BYTES),
        b"/v1/models": json.dumps(cards).encode(),
    }
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(_Answers, "127.0.0.1", 0) for _ in range(num_workers)]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.sleep(600)


@contextlib.contextmanager
def workers(count: int) -> Iterator[list[str]]:
    """URLs of so many workers in another process."""
    argv = [sys.executable, "-m", "shoal.benchmarks.fleet_cost", "serve", str(count)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ports = process.stdout.readline().split()
            yield [f"http://127.0.0.1:{port}" for port in ports]
        finally:
            process.kill()


async def cpu_share(urls: list[str], *, scraped: bool) -> float:
    """Share of one core that watching these takes, once all are ready."""
    config = RouterConfig(
        discovery=DiscoveryConfig(static=tuple(StaticEndpoint(url=url) for url in urls)),
        health=HealthConfig(scrape_interval_s=1.0 if scraped else 86_400.0),
    )
    ready = asyncio.Event()

    def on_change(records: list[EndpointRecord]) -> None:
        if len(records) == len(urls) and all(record.status == "ready" for record in records):
            ready.set()

    fleet = Fleet(config, on_change, lambda blocks: None, MonotonicClock())
    task = asyncio.create_task(fleet.run())
    try:
        await asyncio.wait_for(ready.wait(), 60)
        await asyncio.sleep(WARM_UP_S)
        cpu, wall = time.process_time(), time.perf_counter()
        await asyncio.sleep(MEASURE_S)
        return (time.process_time() - cpu) / (time.perf_counter() - wall)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def page_us(*, rounds: int = 300) -> float:
    """CPU to read one page, in microseconds."""
    page, reader = metrics_page(PAGE_BYTES), PageReader()
    reader.read(page)
    start = time.process_time()
    for _ in range(rounds):
        reader.read(page)
    return (time.process_time() - start) / rounds * 1e6


def block_us(blocks_a_batch: int, *, num_blocks: int = 50_000) -> float:
    """CPU to take in one stored block, decoding included, in microseconds."""
    die = random.Random(1)
    payloads = []
    for number in range(num_blocks // blocks_a_batch):
        event = {
            "type": "BlockStored",
            "block_hashes": [die.getrandbits(64) for _ in range(blocks_a_batch)],
            "parent_block_hash": None,
            "token_ids": [die.randrange(150_000) for _ in range(BLOCK_SIZE * blocks_a_batch)],
            "block_size": BLOCK_SIZE, "lora_id": None, "medium": "GPU", "lora_name": None,
        }  # fmt: skip
        payloads.append(msgspec.msgpack.encode([float(number), [event]]))
    feed = KVFeed("e", can_replay=False)
    start = time.process_time()
    for number, payload in enumerate(payloads):
        feed.published(number, payload, 0.0)
        feed.take()
    return (time.process_time() - start) / num_blocks * 1e6


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    figures: dict[str, float] = {}
    for count, scraped in CASES:
        with workers(count) as urls:
            share = uvloop.run(cpu_share(urls, scraped=scraped))
        what = f"{count}_endpoints" + ("_scraped" if scraped else "")
        print(f"{what}: {share:.1%} of a core", flush=True)
        figures[f"cpu_share_{what}"] = round(share, 4)
    figures["page_us"] = round(page_us(), 1)
    for blocks in (1, 16, 128):
        figures[f"block_us_batches_of_{blocks}"] = round(block_us(blocks), 2)
    print(json.dumps(figures))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        uvloop.run(serve(int(sys.argv[2])))
    else:
        main()
