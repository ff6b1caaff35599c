"""The admin API: metrics, health, endpoints, reload, restart, and what the router has decided.

FastAPI, on its own address: requests to models never pass through it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Any, Protocol

from fastapi import FastAPI, Query
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from shoal import __version__
from shoal.admin.app import AddRoutes, guarded, json_response
from shoal.admin.body import read_body
from shoal.errors import ConfigError, InvalidRequest

from ..telemetry.exposition import CONTENT_TYPE
from .reload import ReloadResult

MAX_BODY_BYTES = 1024 * 1024
MAX_WAIT_S = 60.0


class EndpointAdmin(Protocol):
    """What the fleet lets people do to its endpoints. Each raises NotFound."""

    def drain(self, endpoint_id: str) -> None: ...
    def undrain(self, endpoint_id: str) -> None: ...
    def remove(self, endpoint_id: str) -> None: ...


class RouterAdmin(Protocol):
    """What the state process shows and does: `state.State`."""

    is_draining: bool

    @property
    def fleet(self) -> EndpointAdmin: ...
    @property
    def num_ready(self) -> int: ...
    def admin_keys(self) -> tuple[str, ...]: ...
    def endpoints(self) -> list[dict[str, Any]]: ...
    def held(self) -> dict[str, int]: ...
    async def wait_held(self, model: str, timeout_s: float) -> dict[str, int]: ...
    def add_endpoint(self, body: bytes) -> str: ...
    def config(self) -> dict[str, Any]: ...
    async def reload(self) -> ReloadResult: ...
    async def restart(self) -> int: ...
    async def metrics(self, only: Collection[str] = ()) -> str: ...
    async def decisions(self, limit: int) -> list[dict[str, Any]]: ...
    async def connections(self) -> list[dict[str, Any]]: ...


def create_app(
    router: RouterAdmin,
    extras: Sequence[AddRoutes] = (),
    *,
    open_paths: frozenset[str] = frozenset(),
) -> ASGIApp:
    """The whole application, errors and keys included. `open_paths` of `extras` need no key."""
    app = FastAPI(
        title="Shoal router, admin API", version=__version__, docs_url=None, redoc_url=None
    )
    _add_open_routes(app, router)
    _add_endpoint_routes(app, router)
    _add_router_routes(app, router)
    _add_debug_routes(app, router)
    for add_routes in extras:
        add_routes(app)
    return guarded(
        app,
        name="router",
        keys=router.admin_keys,
        keys_setting="admin.api_keys_file",
        open_paths=open_paths,
    )


def _add_open_routes(app: FastAPI, router: RouterAdmin) -> None:
    @app.get("/health")
    async def health() -> Response:
        """The state process lives."""
        return json_response({"status": "ok"})

    @app.get("/ready")
    async def ready() -> Response:
        """Whether requests are taken: 200 or 503."""
        status = "draining" if router.is_draining else "ready" if router.num_ready else "starting"
        body = {"status": status, "processes_ready": router.num_ready}
        return json_response(body, status=200 if status == "ready" else 503)

    @app.get("/metrics")
    async def metrics(
        only: Annotated[list[str], Query(alias="name[]", max_length=64)] = [],  # noqa: B006
    ) -> Response:
        """Prometheus text format, of all processes together; `name[]` asks for these alone."""
        return Response(await router.metrics(only), media_type=CONTENT_TYPE)


def _add_endpoint_routes(app: FastAPI, router: RouterAdmin) -> None:
    @app.get("/admin/endpoints")
    async def endpoints() -> Response:
        """All endpoints with status and load; requests held for models that have none."""
        return json_response({"endpoints": router.endpoints(), "held": router.held()})

    @app.get("/admin/held")
    async def held(
        model: str, wait_s: Annotated[float, Query(ge=0, le=MAX_WAIT_S)] = 0.0
    ) -> Response:
        """Requests held for models without an endpoint. With `wait_s`: the answer comes once
        there are some for `model`, or after so long."""
        return json_response({"held": await router.wait_held(model, wait_s)})

    @app.post("/admin/endpoints")
    async def add(request: Request) -> Response:
        """Add an endpoint: a JSON object like an entry of `discovery.static`."""
        endpoint_id = router.add_endpoint(await read_body(request, MAX_BODY_BYTES))
        return json_response({"endpoint_id": endpoint_id}, status=201)

    @app.post("/admin/endpoints/{endpoint_id:path}/drain")
    async def drain(endpoint_id: str) -> Response:
        """Nothing new goes there."""
        router.fleet.drain(endpoint_id)
        return json_response({"endpoint_id": endpoint_id, "status": "draining"})

    @app.post("/admin/endpoints/{endpoint_id:path}/undrain")
    async def undrain(endpoint_id: str) -> Response:
        """Take it back into use."""
        router.fleet.undrain(endpoint_id)
        return json_response({"endpoint_id": endpoint_id, "status": "undrained"})

    @app.delete("/admin/endpoints/{endpoint_id:path}")
    async def remove(endpoint_id: str) -> Response:
        """Drain it, then forget it."""
        router.fleet.remove(endpoint_id)
        return json_response({"endpoint_id": endpoint_id, "status": "removing"}, status=202)


def _add_router_routes(app: FastAPI, router: RouterAdmin) -> None:
    @app.get("/admin/config")
    async def config() -> Response:
        """The configuration in use, without secrets."""
        return json_response(router.config())

    @app.post("/admin/reload")
    async def reload() -> Response:
        """Read the configuration and all files it names again; on an error the old one stays."""
        try:
            return json_response(await router.reload())
        except ConfigError as error:
            raise InvalidRequest(
                f"The configuration stays as it was. {error}", code="config_error"
            ) from error

    @app.post("/admin/restart")
    async def restart() -> Response:
        """Replace all data-plane processes, one after the other, without loss."""
        return json_response({"replaced": await router.restart()})


def _add_debug_routes(app: FastAPI, router: RouterAdmin) -> None:
    @app.get("/debug/decisions")
    async def decisions(limit: Annotated[int, Query(ge=1, le=10_000)] = 100) -> Response:
        """The newest decisions first: where each request went, why, and the best three."""
        return json_response({"decisions": await router.decisions(limit)})

    @app.get("/debug/connections")
    async def connections() -> Response:
        """What each process has open."""
        return json_response({"processes": await router.connections()})
