"""A router without requests: its real admin API, over numbers that a load in the test makes.

The load is a fluid: `rate` requests a second, shared evenly by the endpoints, which are the Ready
pods of the namespace. Each takes as long as `core.work` expects of a GPU of the day, so a scaler
has nothing to learn first. Requests for which there is no endpoint are held.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn

from shoal.autoscaler.core.work import PRIOR
from shoal.errors import NotFound, ShoalError
from shoal.router.control.admin import create_app
from shoal.router.control.reload import ReloadResult
from shoal.router.telemetry.exposition import render
from shoal.router.telemetry.metrics import RouterMetrics
from shoal.router.telemetry.usage import Usage

from .api import Json, Mirror
from .eventually import eventually
from .lws_controller import NAME, WORKER, is_ready

MODEL = "test-model"
INPUT_TOKENS, OUTPUT_TOKENS = 1000, 100
REQUEST_LOAD_S = PRIOR.load(INPUT_TOKENS, OUTPUT_TOKENS)
"""0.07: seconds of a replica's time that one request takes."""
FULL = 0.95
"""Share of its time that a replica gives at the most; beyond it requests come late."""


class FakeRouter:
    """Implements `RouterAdmin` and `EndpointAdmin`; `serve` puts it on a port."""

    is_draining = False
    num_ready = 1

    def __init__(self, pods: Mirror) -> None:
        self.rate = 0.0
        """Requests per second."""
        self.queued = 0
        self.in_flight_of: dict[str, int] = {}
        """By pod, where the even share is not to be told."""
        self.drained: list[str] = []
        """Pods that somebody drained and nobody took back, in the order they were."""
        self.url = ""
        self._pods = pods
        self._held = 0.0
        self._part = 0.0
        self._metrics = RouterMetrics()
        self._metrics.know_models([MODEL])
        self._seen_at = time.monotonic()

    # --- What a test does.

    @property
    def fleet(self) -> FakeRouter:
        return self

    def hold(self, num_requests: int) -> None:
        """So many requests wait for a model without an endpoint."""
        self._held += num_requests

    @contextlib.asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[None]:
        """The admin API on the loopback; leaving is an outage, entering again its end."""
        listener = socket.create_server(("127.0.0.1", port))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            create_app(self), lifespan="off", log_config=None, access_log=False,
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield
        finally:
            server.should_exit = True
            await task
            listener.close()

    # --- What the admin API asks of it.

    def admin_keys(self) -> tuple[str, ...]:
        return ()

    def endpoints(self) -> list[dict[str, Any]]:
        self._advance()
        found = self._ready_pods()
        running = self._running(len(found))
        return [
            {
                "endpoint_id": pod["metadata"]["name"],
                "url": f"http://{pod['status']['podIP']}:8000",
                "engine": "shoal",
                "models": [MODEL],
                "weight": 1.0,
                "cost_per_hour": 0.0,
                "labels": pod["metadata"].get("labels", {}),
                "status": "draining" if pod["metadata"]["name"] in self.drained else "ready",
                "num_requests_running": round(running),
                "num_requests_waiting": 0,
                "kv_cache_usage": min(running / 200, 1.0),
                "num_cache_tokens": 0,
                "scraped_age_s": 0.0,
                "kv_block_size": 0,
                "instance": pod["metadata"]["uid"],
                "adapters": [],
                "source": "kubernetes",
                "health": "ready",
                "is_drained": pod["metadata"]["name"] in self.drained,
                "is_leaving": False,
                "in_flight": self.in_flight_of.get(pod["metadata"]["name"], round(running)),
            }
            for pod in found
        ]

    def held(self) -> dict[str, int]:
        self._advance()
        return {MODEL: int(self._held)} if self._held >= 1 else {}

    async def wait_held(self, model: str, timeout_s: float) -> dict[str, int]:
        with contextlib.suppress(AssertionError):
            await eventually(lambda: self.held().get(model), "demand", timeout_s)
        return self.held()

    def drain(self, endpoint_id: str) -> None:
        self._find(endpoint_id)
        if endpoint_id not in self.drained:
            self.drained.append(endpoint_id)
        self.in_flight_of.setdefault(endpoint_id, 0)

    def undrain(self, endpoint_id: str) -> None:
        self._find(endpoint_id)
        if endpoint_id in self.drained:
            self.drained.remove(endpoint_id)
            self.in_flight_of.pop(endpoint_id, None)

    async def metrics(self) -> str:
        self._advance()
        self._metrics.held.replace(self.held())
        self._metrics.queued.set("0", self.queued)
        for endpoint in self.endpoints():
            counters = self._metrics.endpoint(endpoint["endpoint_id"])
            counters.in_flight = endpoint["in_flight"]
        return render(self._metrics.snapshot())

    def remove(self, endpoint_id: str) -> None:
        raise ShoalError(f"{endpoint_id}: pods are Kubernetes' to remove")

    def add_endpoint(self, body: bytes) -> str:
        raise ShoalError("pods are Kubernetes' to add")

    def config(self) -> dict[str, Any]:
        return {}

    async def reload(self) -> ReloadResult:
        raise ShoalError("nothing to reload")

    async def restart(self) -> int:
        return 0

    async def decisions(self, limit: int) -> list[dict[str, Any]]:
        return []

    async def connections(self) -> list[dict[str, Any]]:
        return []

    # --- The fluid.

    def _ready_pods(self) -> list[Json]:
        """Ready pods; of a group, its leader."""
        return [
            pod
            for pod in self._pods.objects.values()
            if is_ready(pod)
            and not pod["metadata"].get("deletionTimestamp")
            and (NAME not in pod["metadata"]["labels"] or pod["metadata"]["labels"][WORKER] == "0")
        ]

    def _find(self, endpoint_id: str) -> None:
        if endpoint_id not in (pod["metadata"]["name"] for pod in self._ready_pods()):
            raise NotFound(f"no endpoint {endpoint_id}")

    def _load(self, num_endpoints: int) -> float:
        """Share of its time that each endpoint gives."""
        return min(self.rate * REQUEST_LOAD_S / num_endpoints, FULL) if num_endpoints else 0.0

    def _running(self, num_endpoints: int) -> float:
        """Requests in the batch of each."""
        load = self._load(num_endpoints)
        output_tokens_per_s = load / REQUEST_LOAD_S * OUTPUT_TOKENS
        return output_tokens_per_s * PRIOR.base_s / (1 - load)

    def _advance(self) -> None:
        """Count what came and went since the last look."""
        now = time.monotonic()
        self._part += self.rate * (now - self._seen_at)
        self._seen_at = now
        came, self._part = int(self._part), self._part % 1
        serving = [p for p in self._ready_pods() if p["metadata"]["name"] not in self.drained]
        if not serving:
            self._held += came
            return
        came += int(self._held)
        self._held = 0.0
        load = self._load(len(serving))
        ttft_s = 0.1 if load < FULL else 5.0
        tpot_s = PRIOR.base_s / (1 - load)
        model = self._metrics.model(MODEL)
        for _ in range(came):
            model.finished(200, ttft_s + OUTPUT_TOKENS * tpot_s, ttft_s, OUTPUT_TOKENS)
            model.used("tests", Usage(INPUT_TOKENS, 0, OUTPUT_TOKENS))
            model.routed(INPUT_TOKENS, 0)


class _Server(uvicorn.Server):
    """Signals are pytest's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
