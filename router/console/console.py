"""The console's routes: pages, what they show, and the chat box."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Annotated, Any, Protocol

import httpx
import msgspec
from fastapi import FastAPI, Query
from starlette.responses import RedirectResponse, Response

from shoal import __version__

from ..settings.config import RouterConfig
from .answers import json_answer
from .chat import Chat
from .figures import columns, figures
from .pages import ROOT, load_pages
from .sampler import Counted, Sampler
from .samples import ALL, breaker_states
from .scaling import Scaling, scaling_of
from .scaling_view import ScalingView

AUTOSCALER_ROUTES = "/autoscaler/"
NUM_DECISIONS = 20
"""Routing decisions that a page shows."""
SHOWN_S = 3700.0
"""An autoscaler may remember a day."""
_SEARCHED_DECISIONS = 1000
_encode = msgspec.json.Encoder().encode


class Shown(Counted, Protocol):
    """What the console needs of the router: `control.state.State`."""

    is_draining: bool

    @property
    def num_ready(self) -> int: ...
    @property
    def settings(self) -> RouterConfig: ...
    @property
    def api_port(self) -> int: ...
    async def decisions(self, limit: int) -> list[dict[str, Any]]: ...


class Console:
    """Use: `add_routes` to the admin app after all others, then `run` beside it."""

    def __init__(self, router: Shown, sampler: Sampler | None = None) -> None:
        """`sampler`: one that has a history already."""
        self._router = router
        self._sampler = sampler or Sampler(router)
        self._chat = Chat(lambda: router.settings.listen, router.api_port)
        self._pages = load_pages()
        self._scaling: Scaling | None = None
        self._scaling_at: tuple[str | None, str | None] = (None, None)
        self._client: httpx.AsyncClient | None = None
        self._local: Scaling | None = None

    @property
    def open_paths(self) -> frozenset[str]:
        """Paths that need no admin key: they hold no data."""
        return frozenset(("/", ROOT.rstrip("/"), *self._pages))

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await self._sampler.run()
        finally:
            if self._client is not None:
                await self._client.aclose()

    def add_routes(self, app: FastAPI) -> None:
        """An `AddRoutes`. An autoscaler whose routes the app has by now is shown, too."""
        if any(getattr(r, "path", "").startswith(AUTOSCALER_ROUTES) for r in app.routes):
            self._local = scaling_of(app, clock=time.monotonic)
        for path, page in self._pages.items():
            app.add_api_route(path, page.answer, include_in_schema=False)
        for path in ("/", ROOT.rstrip("/")):
            app.add_api_route(path, _to_console, include_in_schema=False)

        @app.get("/console/data")
        async def data(
            since: Annotated[float, Query(ge=0)] = 0.0,
            scaling_since: Annotated[float, Query(ge=0)] = 0.0,
            model: Annotated[str, Query(max_length=512)] = ALL,
        ) -> Response:
            """All that the console shows of a model (of all: empty): samples after `since`, and
            an autoscaler's after `scaling_since` (Unix seconds)."""
            return json_answer(_encode(await self.data(model, since, scaling_since)))

        @app.get("/console/decisions/{request_id}")
        async def decisions(request_id: str) -> Response:
            """What was decided about one request, the newest first; empty when it is long ago."""
            found = [
                decision
                for decision in await self._router.decisions(_SEARCHED_DECISIONS)
                if decision["request_id"] == request_id
            ]
            return json_answer(_encode({"decisions": found}))

        app.add_api_route("/console/chat/models", self._chat.models, methods=["GET"])
        app.add_api_route("/console/chat", self._chat.answer, methods=["POST"])

    async def data(self, model: str, since: float, scaling_since: float) -> Mapping[str, Any]:
        """One snapshot, in plain data."""
        router, config = self._router, self._router.settings
        scaling, decisions = await asyncio.gather(
            self._scaling_view(model, scaling_since), router.decisions(NUM_DECISIONS)
        )
        target_s = config.admin.ttft_target_s
        if scaling is not None:
            target_s = scaling.ttft_target_s(model or scaling.history_of) or target_s
        endpoints, held = self._endpoints(), router.held()
        history = self._sampler.history
        cost = 0.0 if scaling is None else scaling.cost_per_hour(model)
        return {
            "now": time.time(),
            "version": __version__,
            "status": _status(router),
            "needs_key": _needs_key(config),
            "target_s": target_s,
            "model": model,
            "models": sorted({name for each in endpoints for name in each["models"]} | {*held}),
            "figures": figures(history, model, target_s=target_s, cost_per_hour=cost),
            "points": columns(history.all(), model, since=since, target_s=target_s),
            "endpoints": endpoints,
            "held": held,
            "decisions": decisions,
            "scaling": scaling,
        }

    def _endpoints(self) -> list[dict[str, Any]]:
        """With the state of their breakers, as of the last sample."""
        states = breaker_states(self._sampler.latest)
        return [
            {**endpoint, "breaker": states.get(endpoint["endpoint_id"], "closed")}
            for endpoint in self._router.endpoints()
        ]

    async def _scaling_view(self, model: str, since: float) -> ScalingView | None:
        scaling = self._local or self._remote()
        if scaling is None:
            return None
        return await scaling.view(model, max(since, time.time() - SHOWN_S))

    def _remote(self) -> Scaling | None:
        """Where the configuration says it is now: a reload may have changed that."""
        admin = self._router.settings.admin
        place = (admin.autoscaler_url, admin.autoscaler_api_key)
        if place != self._scaling_at:
            self._scaling_at, (url, key) = place, place
            if self._client is None:
                self._client = httpx.AsyncClient(trust_env=False)
            clock = time.monotonic
            self._scaling = Scaling(url, self._client, clock=clock, key=key) if url else None
        return self._scaling


async def _to_console() -> Response:
    return RedirectResponse(ROOT, status_code=307)


def _status(router: Shown) -> str:
    return "draining" if router.is_draining else "ready" if router.num_ready else "starting"


def _needs_key(config: RouterConfig) -> bool:
    return config.auth.keys_file is not None or config.auth.jwt is not None
