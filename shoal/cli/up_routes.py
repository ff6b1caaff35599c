"""What `shoal up` adds to the router's admin API: the autoscaler's pages, and the workers."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from starlette.responses import Response

from shoal.autoscaler.admin.routes import add_routes
from shoal.autoscaler.local.supervisor import Supervisor
from shoal.autoscaler.local.view import add_worker_routes
from shoal.autoscaler.record.memory import Memory
from shoal.autoscaler.telemetry import CONTENT_TYPE, Telemetry


def add_up_routes(
    app: FastAPI, memory: Memory, telemetry: Telemetry, supervisor: Callable[[], Supervisor | None]
) -> None:
    """All under /autoscaler/."""
    add_routes(app, memory)
    add_worker_routes(app, supervisor)

    @app.get("/autoscaler/metrics")
    async def metrics() -> Response:
        """The autoscaler's, in Prometheus text format; the router's are at /metrics."""
        return Response(telemetry.text(), media_type=CONTENT_TYPE)
