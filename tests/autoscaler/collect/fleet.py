"""Routers and workers over HTTP, in memory: pages made of a few numbers that a test sets."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from shoal import metrics as names

ROUTER = "http://router:8081"


@dataclass
class FakeRouter:
    """What one router counts of the model `m`."""

    arrivals: int = 0
    queued: int = 0
    held: int = 0
    first_tokens: dict[str, int] = field(default_factory=dict)
    """Cumulative counts by edge, as on the page."""
    fails: bool = False
    demand: asyncio.Event = field(default_factory=asyncio.Event)

    def page(self) -> str:
        bucket = f"{names.ROUTER_STREAM_TIME_TO_FIRST_TOKEN}_bucket"
        lines = [
            f"# TYPE {names.ROUTER_ARRIVALS} counter",
            f'{names.ROUTER_ARRIVALS}{{model="other"}} 1000000',
            f'{names.ROUTER_ARRIVALS}{{model="m"}} {self.arrivals}',
            f'{names.ROUTER_MODEL_QUEUED_REQUESTS}{{model="m"}} {self.queued}',
            f'{names.ROUTER_HELD_REQUESTS}{{model="m"}} {self.held}',
            f'{names.ROUTER_HELD_REQUESTS}{{model="other"}} 99',
            f'{bucket}{{model="other",le="1.0"}} 77',
        ]
        lines += [f'{bucket}{{model="m",le="{le}"}} {n}' for le, n in self.first_tokens.items()]
        return "\n".join(lines)


@dataclass
class FakeWorker:
    """What one worker counts."""

    models: tuple[str, ...] = ("m",)
    labels: dict[str, str] = field(default_factory=dict)
    status: str = "ready"
    running: int = 0
    waiting: int = 0
    kv_usage: float = 0.0
    prompt: int = 0
    cached: int = 0
    generated: int = 0
    finished: int = 0
    gap_seconds: float = 0.0
    first_tokens: dict[str, int] = field(default_factory=dict)
    started: float = 1.0
    fails: bool = False
    age: str | None = None

    def page(self) -> str:
        label = 'model_name="m",engine="0"'
        values = {
            names.NUM_REQUESTS_RUNNING: self.running,
            names.NUM_REQUESTS_WAITING: self.waiting,
            names.KV_CACHE_USAGE_PERC: self.kv_usage,
            names.PROMPT_TOKENS: self.prompt,
            names.PREFIX_CACHE_HITS: self.cached,
            names.GENERATION_TOKENS: self.generated,
            names.REQUEST_SUCCESS: self.finished,
            f"{names.INTER_TOKEN_LATENCY}_count": max(self.generated - self.finished, 0),
            f"{names.INTER_TOKEN_LATENCY}_sum": self.gap_seconds,
        }
        lines = [f"{name}{{{label}}} {value}" for name, value in values.items()]
        lines += [
            f'{names.TIME_TO_FIRST_TOKEN}_bucket{{{label},le="{le}"}} {n}'
            for le, n in self.first_tokens.items()
        ]
        lines.append(f"{names.PROCESS_START_TIME} {self.started}")
        return "\n".join(lines)


class Fleet:
    """Answers requests to `ROUTER` and to any worker's address."""

    def __init__(self) -> None:
        self.routers = {ROUTER: FakeRouter()}
        self.workers: dict[str, FakeWorker] = {}
        self.keys: dict[str, str | None] = {}
        """The key that came with the last request, by host."""

    @property
    def router(self) -> FakeRouter:
        return self.routers[ROUTER]

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self._answer))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        address = f"{request.url.scheme}://{request.url.netloc.decode()}"
        self.keys[request.url.host] = request.headers.get("authorization")
        if (router := self.routers.get(address)) is not None:
            return await self._as_router(router, request)
        worker = self.workers[address]
        if worker.fails:
            raise httpx.ConnectError("refused")
        headers = {} if worker.age is None else {"age": worker.age}
        return httpx.Response(200, text=worker.page(), headers=headers)

    async def _as_router(self, router: FakeRouter, request: httpx.Request) -> httpx.Response:
        if router.fails:
            return httpx.Response(503)
        match request.url.path:
            case "/metrics":
                return httpx.Response(200, text=router.page())
            case "/admin/endpoints":
                return _json({"endpoints": [_entry(u, w) for u, w in self.workers.items()]})
            case "/admin/held":
                try:
                    async with asyncio.timeout(float(request.url.params["wait_s"])):
                        await router.demand.wait()
                except TimeoutError:
                    pass
                return _json({"held": {request.url.params["model"]: router.held}})
        return httpx.Response(404)


def _entry(url: str, worker: FakeWorker) -> dict[str, Any]:
    return {
        "endpoint_id": url, "url": url, "models": worker.models, "labels": worker.labels,
        "status": worker.status, "weight": 1.0, "scraped_age_s": None,
    }  # fmt: skip


def _json(body: Any) -> httpx.Response:
    return httpx.Response(200, content=msgspec.json.encode(body))
