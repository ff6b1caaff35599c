"""The autoscaler's own admin app: health, metrics, and what was decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import FastAPI, Query
from starlette.responses import Response
from starlette.types import ASGIApp

from shoal import __version__
from shoal.admin.app import guarded, json_response

from ..record.memory import Memory
from ..telemetry import CONTENT_TYPE, Telemetry
from .routes import add_routes
from .view import decisions_view


def create_app(
    memory: Memory,
    telemetry: Telemetry,
    *,
    keys: Sequence[str] = (),
    is_ready: Callable[[], bool] = lambda: True,
) -> ASGIApp:
    """`keys`: bearers of any may ask; without, programs on this machine may.

    `is_ready`: whether it has begun to work (to lead, or to stand by).
    """
    app = FastAPI(
        title="Shoal autoscaler, admin API", version=__version__, docs_url=None, redoc_url=None
    )

    @app.get("/health")
    async def health() -> Response:
        """The process lives."""
        return json_response({"status": "ok"})

    @app.get("/ready")
    async def ready() -> Response:
        """200 or 503."""
        if is_ready():
            return json_response({"status": "ready"})
        return json_response({"status": "starting"}, status=503)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Prometheus text format."""
        return Response(telemetry.text(), media_type=CONTENT_TYPE)

    @app.get("/debug/decisions")
    async def decisions(limit: Annotated[int, Query(ge=1, le=10_000)] = 100) -> Response:
        """As /autoscaler/decisions: the name that the router has for its own."""
        return json_response(decisions_view(memory, limit))

    add_routes(app, memory)
    allowed = tuple(keys)
    return guarded(app, name="autoscaler", keys=lambda: allowed, keys_setting="--admin-key-file")
