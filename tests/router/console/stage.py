"""A router that plays a part: an hour of two models, four workers and an autoscaler, made of sines.

For pictures and for tests of the page: everything a console can show is there at once.
"""

from __future__ import annotations

import asyncio
import functools
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Collection
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from shoal import metrics as names
from shoal.admin.app import AddRoutes
from shoal.router.console.history import INTERVAL_S
from shoal.router.console.sampler import Sampler
from shoal.router.console.samples import TTFT_EDGES
from shoal.router.control.reload import ReloadResult
from shoal.router.settings.config import RouterConfig
from shoal.router.telemetry.snapshot import Snapshot

LLAMA, QWEN = "llama-3.1-8b", "qwen-2.5-0.5b"
ANSWER = (
    "Fish swim in shoals because many eyes see a hunter sooner than two do, and because it is hard "
    "to pick one out of a crowd that moves as one. <b>Each watches its neighbours</b>; none leads."
)
PERIOD_S = 1500.0
START_UP_S = 40.0
CURTAIN = time.time()
"""The same scene whenever it rises: demand grows, and another replica is on its way."""


def demand(at: float) -> float:
    """Requests per second for the larger model."""
    at -= CURTAIN
    wave = 0.5 - 0.5 * math.cos(2 * math.pi * (at / PERIOD_S + 0.34))
    return 2.0 + 10.0 * wave + 0.5 * math.sin(at / 31.0)


def needed(at: float) -> float:
    return demand(at) / 4.2 + 0.25


@functools.cache
def desired(at: float) -> int:
    """Ordered a little ahead, given up a minute late."""
    return max(math.ceil(needed(at + lead)) for lead in range(-100, 50, 10))


def ready(at: float) -> int:
    return min(desired(at), desired(at - START_UP_S))


def ttft_s(pressure: float, share: float) -> float:
    """Of the request at this quantile: long when replicas are short."""
    return 0.11 * (1 + pressure**4) * math.exp(1.1 * (share - 0.5) * 2 * (0.6 + pressure**6))


class StagedRouter:
    """`Shown` and `RouterAdmin`."""

    def __init__(self) -> None:
        self.is_draining = False
        self.num_ready = 2
        self.api_port = 8080
        self.settings = RouterConfig()
        self.keys: tuple[str, ...] = ()
        self.drained: set[str] = set()
        self.counters: dict[str, dict[tuple[str, ...], Any]] = {
            names.ROUTER_REQUESTS: {}, names.ROUTER_TOKENS: {},
            names.ROUTER_TIME_TO_FIRST_TOKEN: {}, names.ROUTER_QUEUED_REQUESTS: {},
            names.ROUTER_BREAKER_STATE: {("worker-q", "half_open"): 1.0},
        }  # fmt: skip
        self.at = time.time()
        self.fleet = SimpleNamespace(
            drain=self.drained.add, undrain=self.drained.discard, remove=self.drained.add
        )

    def play(self, to: float) -> None:
        """Go on with the story until then."""
        span_s, at = to - self.at, to
        self.at = to
        pressure = needed(at) / max(1, ready(at))
        rates = {LLAMA: demand(at), QWEN: 1.4 + math.sin(at / 40)}
        for model, rate in rates.items():
            count = rate * span_s
            self._add(names.ROUTER_REQUESTS, (model, "200"), count)
            prompt = 900 if model == LLAMA else 220
            self._add(names.ROUTER_TOKENS, (model, "t", "prompt"), count * prompt)
            cached = 0.62 + 0.1 * math.sin(at / 200)
            self._add(names.ROUTER_TOKENS, (model, "t", "cached"), count * prompt * cached)
            self._add(names.ROUTER_TOKENS, (model, "t", "completion"), count * 180)
            histogram = self.counters[names.ROUTER_TIME_TO_FIRST_TOKEN].setdefault(
                (model,), [0.0] * (len(TTFT_EDGES) + 2)
            )
            for share in range(20):
                taken_s = ttft_s(pressure, (share + 0.5) / 20) / (1 if model == LLAMA else 4)
                bucket = sum(edge < taken_s for edge in TTFT_EDGES)
                histogram[bucket] += count / 20
        if needed(at) > ready(at) + 0.6:
            self._add(names.ROUTER_REQUESTS, (LLAMA, "503"), 0.02 * span_s)
        shortage = max(0.0, needed(at) - ready(at))
        self.counters[names.ROUTER_QUEUED_REQUESTS]["interactive",] = float(round(14 * shortage))

    def _add(self, name: str, labels: tuple[str, ...], count: float) -> None:
        self.counters[name][labels] = self.counters[name].get(labels, 0.0) + count

    async def snapshot(self) -> Snapshot:
        return {
            name: {
                labels: [*value] if isinstance(value, list) else value
                for labels, value in children.items()
            }
            for name, children in self.counters.items()
        }

    def endpoints(self) -> list[dict[str, Any]]:
        at = self.at
        busy = demand(at) * 3 / max(1, ready(at))
        found = [
            _worker(f"worker-{letter}", LLAMA, 2.10, busy * weight, 0.32 + busy / 40)
            for letter, weight in zip("abcd"[: ready(at)], (1.0, 1.1, 0.8, 0.9), strict=False)
        ]
        found.append(_worker("worker-q", QWEN, 0.35, 2, 0.08))
        if ready(at) < desired(at):
            found.append(_worker("worker-new", LLAMA, 2.10, 0, 0.0, status="starting"))
        else:
            found.append(_worker("worker-x", LLAMA, 2.10, 0, 0.0, status="unhealthy"))
        for worker in found:
            worker["is_drained"] = worker["endpoint_id"] in self.drained
            if worker["is_drained"]:
                worker["status"] = "draining"
        return found

    def held(self) -> dict[str, int]:
        return {}

    async def decisions(self, limit: int) -> list[dict[str, Any]]:
        workers = [w["endpoint_id"] for w in self.endpoints() if w["status"] == "ready"]
        found = []
        for number in range(limit):
            turn = int(self.at * 2) - number
            model = QWEN if turn % 7 == 0 else LLAMA
            pool = workers[-1:] if model == QWEN else workers[:-1]
            if not pool:  # the only one there is now has been drained
                continue
            order = [pool[(turn + i * i) % len(pool)] for i in range(min(3, len(pool)))]
            order = [*dict.fromkeys(order)]
            if not order:  # all of the model's are drained
                continue
            found.append({
                "ts": turn / 2, "process": 1, "request_id": f"9fbc{turn % 9973:04x}-{turn % 97}",
                "model": model, "endpoint": order[0], "policy": "cost",
                "reason": "least estimated time to first token",
                "num_cached_tokens": 704 if turn % 3 else 0,
                "rejected": {"unhealthy": 1} if turn % 5 == 0 else {},
                "candidates": [
                    {"endpoint": name, "score": -0.08 * (i + 1), "reasons": {
                        "uncached_tokens": 196 + 400 * i, "prefill_s": 0.05 + 0.06 * i,
                        "queue_s": 0.02 * i, "running_s": 0.008}}
                    for i, name in enumerate(order)
                ],
            })  # fmt: skip
        return found

    # What the admin API needs besides.

    def admin_keys(self) -> tuple[str, ...]:
        return self.keys

    async def wait_held(self, model: str, timeout_s: float) -> dict[str, int]:
        return {}

    def add_endpoint(self, body: bytes) -> str:
        return "worker-a"

    def config(self) -> dict[str, Any]:
        return {}

    async def reload(self) -> ReloadResult:
        return ReloadResult(changed=False)

    async def restart(self) -> int:
        return 1

    async def metrics(self, only: Collection[str] = ()) -> str:
        return ""

    async def connections(self) -> list[dict[str, Any]]:
        return []


def _worker(
    name: str, model: str, cost: float, busy: float, kv: float, *, status: str = "ready"
) -> dict[str, Any]:
    return {
        "endpoint_id": name, "url": f"http://10.0.0.{sum(name.encode()) % 90}:8000",
        "engine": "vllm" if model == LLAMA else "shoal", "models": [model], "status": status,
        "cost_per_hour": cost, "num_requests_running": round(busy), "kv_cache_usage": min(0.97, kv),
        "num_requests_waiting": max(0, round(busy) - 12), "in_flight": round(busy),
        "scraped_age_s": None if status == "starting" else 0.4,
        "last_error": "connection refused" if status == "unhealthy" else None,
        "is_drained": False, "is_terminating": False, "is_leaving": False,
    }  # fmt: skip


def autoscaler(now: Callable[[], float], scaled: str = LLAMA) -> AddRoutes:
    """Its admin API's routes."""

    def variant(at: float) -> dict[str, Any]:
        return {
            "name": "h100", "role": "both", "desired": desired(at), "ready": ready(at),
            "pending": desired(at) - ready(at), "unschedulable": 0, "draining": 0,
            "min_replicas": 1, "max_replicas": 6, "gpus_per_replica": 1, "cost_per_hour": 2.10,
        }  # fmt: skip

    def decided(at: float) -> dict[str, Any]:
        before, after = desired(at - 5), desired(at)
        if after > before:
            reasons = [
                {
                    "kind": "demand",
                    "variant": "h100",
                    "detail": f"{demand(at + 45):.1f} requests/s expected when a replica is ready",
                },
                {"kind": "margin", "variant": "h100", "detail": "forecast error 8 %"},
            ]
        elif after < before:
            reasons = [
                {
                    "kind": "scale_down",
                    "variant": "h100",
                    "detail": f"a need of {after} or less for a minute",
                }
            ]
        else:
            reasons = [{"kind": "steady", "variant": "h100", "detail": "capacity meets demand"}]
        return {
            "time": at, "model": scaled, "mode": "auto", "applied": after != before,
            "before": {"h100": before}, "desired": {"h100": after}, "valid": True,
            "reasons": reasons, "explain": {
                "arrivals_per_s": demand(at), "forecast_per_s": demand(at + 45),
                "load_replicas": needed(at), "headroom": 0.4, "start_up_s": START_UP_S,
                "attainment": 0.994},
        }  # fmt: skip

    def times(since: float) -> list[float]:
        last = int(now() // 5) * 5
        return [float(t) for t in range(last - 3600, last + 1, 5) if t > since]

    def add_routes(app: FastAPI) -> None:
        @app.get("/autoscaler/models")
        async def models() -> dict[str, Any]:
            at = now()
            slo = {"ttft_s": 0.5, "tpot_s": 0.05, "attainment": 0.99}
            return {"models": [{
                "model": scaled, "mode": "auto", "interval_s": 5.0, "slo": slo, "gpu_budget": 6,
                "variants": [variant(at)], "demand": {"arrivals_per_s": demand(at)},
                "attainment": 0.994, "tokens_per_s": 1, "tokens_per_dollar": 1,
                "last_decision": decided(at // 5 * 5)}]}  # fmt: skip

        @app.get("/autoscaler/history")
        async def history(model: str, since: float = 0.0) -> dict[str, Any]:
            assert model == scaled
            return {"points": [
                {"time": t, "model": scaled, "desired": desired(t), "ready": ready(t),
                 "pending": desired(t) - ready(t), "needed": needed(t)}
                for t in times(since)
            ]}  # fmt: skip

        @app.get("/autoscaler/decisions")
        async def decisions(limit: int) -> dict[str, Any]:
            return {"decisions": [decided(t) for t in reversed(times(0.0)[-limit:])]}

    return add_routes


def scaling_app(scaled: str) -> FastAPI:
    """An autoscaler of its own."""
    app = FastAPI()
    autoscaler(time.time, scaled)(app)
    return app


def api(router: StagedRouter, pace_s: float = 0.0) -> Starlette:
    """The router's API, with one answer to every question."""

    async def models(request: Request) -> JSONResponse:
        return JSONResponse({"data": [{"id": LLAMA}, {"id": QWEN}]})

    async def answer(request: Request) -> StreamingResponse:
        assert (await request.json())["stream"] is True

        async def events() -> AsyncIterator[str]:
            for word in ANSWER.split():
                yield _event({"choices": [{"delta": {"content": f" {word}"}}]})
                await asyncio.sleep(pace_s)
            yield _event({"choices": [], "usage": {"completion_tokens": len(ANSWER.split())}})
            yield "data: [DONE]\n\n"

        latest = await router.decisions(1)
        return StreamingResponse(
            events(), media_type="text/event-stream",
            headers={"x-request-id": latest[0]["request_id"]},
        )  # fmt: skip

    return Starlette(routes=[
        Route("/v1/models", models), Route("/v1/chat/completions", answer, methods=["POST"])
    ])  # fmt: skip


def _event(body: Any) -> str:
    return f"data: {json.dumps(body)}\n\n"


async def staged(router: StagedRouter, span_s: float = 3600.0) -> Sampler:
    """With all that has happened so far."""
    now = router.at = time.time()
    clock = SimpleNamespace(at=now - span_s)
    router.at = clock.at
    sampler = Sampler(router, wall=lambda: clock.at, monotonic=lambda: clock.at)
    while clock.at <= now:
        router.play(clock.at)
        await sampler.look()
        clock.at += INTERVAL_S
    sampler._wall = sampler._monotonic = time.time
    return sampler


async def go_on(router: StagedRouter) -> None:
    """Until cancelled."""
    while True:
        router.play(time.time())
        await asyncio.sleep(0.5)
