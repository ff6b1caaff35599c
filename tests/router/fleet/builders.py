"""Builders of the fleet's tests."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from shoal.clock import MonotonicClock
from shoal.router.fleet.fleet import Fleet
from shoal.router.fleet.roster import Found
from shoal.router.messages import EndpointRecord, KVBlocks
from shoal.router.settings.config import RouterConfig
from shoal.router.settings.discovery import DiscoveryConfig, StaticEndpoint
from shoal.router.settings.protection import HealthConfig

PATIENCE_S = 40.0


def listed(*urls: str, **fields: Any) -> tuple[Found, ...]:
    return tuple(Found(StaticEndpoint(url=url, **fields)) for url in urls)


def config(*endpoints: StaticEndpoint | str, **fields: Any) -> RouterConfig:
    """With these static endpoints, looked at often."""
    static = tuple(StaticEndpoint(url=e) if isinstance(e, str) else e for e in endpoints)
    fields.setdefault("discovery", DiscoveryConfig(static=static))
    fields.setdefault("health", HealthConfig(interval_s=0.05, scrape_interval_s=0.05))
    return RouterConfig(**fields)


async def until(condition: Callable[[], Any]) -> Any:
    """The first true value of a condition that other tasks bring about."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.005)
    return value


class Told:
    """What a fleet told."""

    def __init__(self) -> None:
        self.records: dict[str, EndpointRecord] = {}
        self.history: list[dict[str, str]] = []
        """Status by endpoint, each time."""
        self.kv: list[KVBlocks] = []

    def on_change(self, records: list[EndpointRecord]) -> None:
        self.records = {record.endpoint_id: record for record in records}
        self.history.append({record.endpoint_id: record.status for record in records})

    def status(self, endpoint_id: str) -> str | None:
        record = self.records.get(endpoint_id)
        return record.status if record is not None else None

    def cached(self, endpoint_id: str) -> set[int]:
        """Blocks, as the messages add up."""
        known: set[int] = set()
        for blocks in self.kv:
            if blocks.endpoint_id == endpoint_id:
                known = (set() if blocks.cleared else known) - set(blocks.removed)
                known |= set(blocks.stored)
        return known


@contextlib.asynccontextmanager
async def running(settings: RouterConfig, **environ: str) -> AsyncIterator[tuple[Fleet, Told]]:
    """A fleet while it runs."""
    told = Told()
    fleet = Fleet(settings, told.on_change, told.kv.append, MonotonicClock(), environ=environ)
    task = asyncio.create_task(fleet.run())
    try:
        yield fleet, told
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Worker:
    """An HTTP server whose every answer a test can set: status and body by path."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes]] = {
            "/health": (200, b""),
            "/v1/models": (200, models("m")),
        }
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.num_connections = 0
        self.is_silent = False
        self.raw: bytes | None = None
        """Sent in place of any answer."""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def asked(self, path: str) -> int:
        return sum(1 for asked, _ in self.requests if asked == path)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """As a process that is killed: the address refuses, connections break."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._writers):
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    def drop_connections(self) -> None:
        for writer in list(self._writers):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.strip().split("\r\n")
                path = first.split()[1]
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
                self.requests.append((path, headers))
                if self.is_silent:
                    continue
                if self.raw is not None:
                    writer.write(self.raw)
                    writer.close()
                    return
                status, body = self.answers.get(path, (404, b"not here"))
                writer.write(
                    b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


@contextlib.asynccontextmanager
async def worker() -> AsyncIterator[Worker]:
    made = Worker()
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def models(*names: str, owned_by: str = "vllm", adapters: tuple[str, ...] = ()) -> bytes:
    """A model list as vLLM writes it."""
    cards = [{"id": name, "owned_by": owned_by, "parent": None} for name in names]
    cards += [{"id": name, "owned_by": owned_by, "parent": names[0]} for name in adapters]
    return msgspec.json.encode({"object": "list", "data": cards})


def page(running: int = 0, started: float | None = 1000.0, generated: float = 0.0) -> bytes:
    """A metrics page as vLLM writes it."""
    lines = [
        "# TYPE vllm:num_requests_running gauge",
        f'vllm:num_requests_running{{engine="0",model_name="m"}} {running}.0',
        'vllm:num_requests_waiting{engine="0",model_name="m"} 3.0',
        'vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25',
        'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="100"} 1.0',
        f'vllm:generation_tokens_total{{engine="0",model_name="m"}} {generated}',
    ]
    if started is not None:
        lines.append(f"process_start_time_seconds {started}")
    return ("\n".join(lines) + "\n").encode()
