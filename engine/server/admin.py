"""What machines ask: is it up, is it ready, which model, which version, how much work."""

from __future__ import annotations

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response

import shoal
from shoal.errors import EngineUnavailable
from shoal.openai.models import ModelCard, ModelList

from .context import ServerContext, json_response


def admin_routes(context: ServerContext) -> APIRouter:
    """The routes, bound to an engine."""
    router = APIRouter()
    engine = context.engine

    @router.get("/health")
    async def health() -> Response:
        """Liveness: 503 with the reason when the engine is dead or stuck."""
        state = engine.health()
        if not state.ok:
            raise EngineUnavailable(f"The engine is not healthy: {state.reason}.")
        return Response()

    @router.get("/ready")
    async def ready() -> Response:
        """Readiness: 503 with the reason until requests can be served."""
        context.require_ready()
        return Response()

    @router.get("/version")
    async def version() -> Response:
        """Version of the server."""
        return JSONResponse({"version": shoal.__version__})

    @router.get("/metrics")
    async def metrics() -> Response:
        """All metrics in the Prometheus text format."""
        return Response(context.metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})

    @router.post("/start_profile")
    async def start_profile() -> Response:
        """Begin a profile of the engine core (`--torch-profiler-dir`)."""
        await engine.profiler.start()
        return JSONResponse({"status": "started"})

    @router.post("/stop_profile")
    async def stop_profile() -> Response:
        """End it; answers when the trace is written, with its path on the server."""
        return JSONResponse({"status": "stopped", "path": await engine.profiler.stop()})

    @router.get("/kv_event_sources")
    async def kv_event_sources() -> Response:
        """Where changes of the prefix cache are published: how a router finds them."""
        context.require_ready()
        endpoints = engine.kv_event_endpoints
        return JSONResponse(
            {
                "enable_kv_cache_events": endpoints.publish is not None,
                "publisher": "zmq",
                "endpoint": endpoints.publish,
                "replay_endpoint": endpoints.replay,
                "topic": "",
                "block_size": engine.stats().block_size,
            }
        )

    @router.get("/v1/models")
    async def list_models() -> Response:
        """The models that can be asked for: one."""
        context.require_ready()
        return json_response(ModelList(data=[_card(context)]))

    @router.get("/v1/models/{model:path}")
    async def get_model(model: str) -> Response:
        """One model."""
        context.require_model(model)
        return json_response(_card(context))

    return router


def _card(context: ServerContext) -> ModelCard:
    engine = context.engine
    return ModelCard(
        id=engine.model_name,
        created=engine.created,
        root=engine.model_name,
        max_model_len=engine.max_model_len,
    )
