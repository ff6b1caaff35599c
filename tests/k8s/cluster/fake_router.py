"""A router without requests: its real admin API, over numbers that a load in the test makes.

Endpoints are the Ready pods of a namespace; of a group, its leader. Requests for which there is no
endpoint are held. The pages of workers are served here too, below `/workers/`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Collection, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.responses import Response

from shoal.errors import NotFound, ShoalError
from shoal.router.control.admin import create_app
from shoal.router.control.reload import ReloadResult
from shoal.router.telemetry.exposition import CONTENT_TYPE, render
from shoal.router.telemetry.metrics import RouterMetrics

from .api import Json, Mirror
from .eventually import eventually
from .fluid import OUTPUT_TOKENS, Worker, share
from .lws_controller import NAME, WORKER, is_ready

MODEL = "test-model"


class FakeRouter:
    """Implements `RouterAdmin` and `EndpointAdmin`; `serve` puts it on a port."""

    is_draining = False
    num_ready = 1

    def __init__(self, pods: Mirror) -> None:
        self.rate = 0.0
        """Requests per second. Change it with `set_rate`."""
        self.queued = 0
        """Requests that wait for room at a worker."""
        self.in_flight_of: dict[str, int] = {}
        """By pod, where the even share is not to be told."""
        self.drains: list[str] = []
        """Pods, in the order in which somebody drained them."""
        self.url = ""
        self._pods = pods
        self._drained: set[str] = set()
        self._held = 0.0
        self._arrived = 0.0
        self._workers: dict[str, Worker] = {}
        self._metrics = RouterMetrics()
        self._metrics.know_models([MODEL])
        self._metrics.model(MODEL)
        self._seen_at = time.monotonic()

    # --- What a test does.

    @property
    def drained(self) -> set[str]:
        """Pods that are drained now."""
        self._advance()
        return set(self._drained)

    def set_rate(self, rate: float) -> None:
        self._advance()
        self.rate = rate

    def hold(self, num_requests: int) -> None:
        """So many requests come for a model without an endpoint."""
        self._held += num_requests
        self._arrived += num_requests

    @contextlib.asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[None]:
        """The admin API on the loopback; leaving is an outage."""
        listener = socket.create_server(("127.0.0.1", port))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            create_app(self, [self._add_worker_pages]), lifespan="off", log_config=None,
            access_log=False, timeout_graceful_shutdown=1,
        )  # fmt: skip
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield
        finally:
            server.should_exit = True
            await task
            # As at the end of a process: uvicorn leaves open what was accepted while it shut down.
            for connection in list(server.server_state.connections):
                connection.transport.abort()
            listener.close()

    # --- What the admin API asks of it.

    @property
    def fleet(self) -> FakeRouter:
        return self

    def admin_keys(self) -> tuple[str, ...]:
        return ()

    def endpoints(self) -> list[dict[str, Any]]:
        self._advance()
        return [self._endpoint(pod) for pod in self._ready_pods()]

    def held(self) -> dict[str, int]:
        self._advance()
        return {MODEL: int(self._held)} if self._held >= 1 else {}

    async def wait_held(self, model: str, timeout_s: float) -> dict[str, int]:
        with contextlib.suppress(AssertionError):
            await eventually(lambda: self.held().get(model), "demand", timeout_s)
        return self.held()

    def drain(self, endpoint_id: str) -> None:
        self._find(endpoint_id)
        self.drains.append(endpoint_id)
        self._advance()
        self._drained.add(endpoint_id)

    def undrain(self, endpoint_id: str) -> None:
        self._find(endpoint_id)
        self._advance()
        self._drained.discard(endpoint_id)

    async def metrics(self, only: Collection[str] = ()) -> str:
        self._advance()
        self._metrics.held.replace(self.held())
        self._metrics.model_queued.set(MODEL, self.queued)
        self._metrics.model(MODEL).arrivals = int(self._arrived)
        return render(self._metrics.snapshot(), only)

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

    # --- How it comes about.

    def _add_worker_pages(self, app: FastAPI) -> None:
        @app.get("/workers/{name}/metrics")
        async def page(name: str) -> Response:
            self._advance()
            if name not in self._workers:
                raise NotFound(f"no worker {name}")
            return Response(self._workers[name].page(), media_type=CONTENT_TYPE)

    def _endpoint(self, pod: Json) -> dict[str, Any]:
        name = pod["metadata"]["name"]
        worker = self._workers[name]
        is_drained = name in self._drained
        in_flight = 0 if is_drained else round(worker.num_running + worker.waiting)
        return {
            "endpoint_id": name,
            "url": f"{self.url}/workers/{name}",
            "engine": "shoal",
            "models": [MODEL],
            "labels": pod["metadata"].get("labels", {}),
            "status": "draining" if is_drained else "ready",
            "num_requests_running": round(worker.num_running),
            "num_requests_waiting": round(worker.waiting),
            "instance": pod["metadata"]["uid"],
            "is_drained": is_drained,
            "is_leaving": False,
            "in_flight": self.in_flight_of.get(name, in_flight),
        }

    def _ready_pods(self) -> list[Json]:
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

    def _advance(self) -> None:
        """Count what came and went since the last look."""
        now = time.monotonic()
        seconds, self._seen_at = now - self._seen_at, now
        there = {pod["metadata"]["name"] for pod in self._ready_pods()}
        self._workers = {
            name: self._workers.get(name) or Worker(started=time.time()) for name in sorted(there)
        }
        self._drained &= there
        came = self.rate * seconds
        self._arrived += came
        serving = [worker for name, worker in self._workers.items() if name not in self._drained]
        if not serving:
            self._held += came
            return
        self._held = 0.0
        before = sum(worker.requests for worker in serving)
        share(self.rate, seconds, serving)
        model = self._metrics.model(MODEL)
        for _ in range(int(sum(w.requests for w in serving)) - int(before)):
            worker = serving[0]
            model.began(worker.ttft_s)
            duration_s = worker.ttft_s + OUTPUT_TOKENS * worker.tpot_s
            model.finished(200, duration_s, worker.ttft_s, OUTPUT_TOKENS)


class _Server(uvicorn.Server):
    """Signals are pytest's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
