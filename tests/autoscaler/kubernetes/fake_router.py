"""The part of a router's admin API that a drain needs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class FakeRouter:
    in_flight: dict[str, int] = field(default_factory=dict)
    """By endpoint, which is a pod's name."""
    drained: set[str] = field(default_factory=set)
    undrained: list[str] = field(default_factory=list)
    authorizations: set[str | None] = field(default_factory=set)
    num_looks: int = 0
    is_down: bool = False
    url: str = ""

    async def endpoints(self, request: web.Request) -> web.Response:
        self.num_looks += 1
        self.authorizations.add(request.headers.get("Authorization"))
        if self.is_down:
            return web.Response(status=503)
        listed = [
            {"endpoint_id": name, "url": f"http://{name}.invalid:8000", "in_flight": number,
             "is_drained": name in self.drained, "is_leaving": False, "status": "ready"}
            for name, number in self.in_flight.items()
        ]  # fmt: skip
        return web.json_response({"endpoints": listed, "held": {}})

    async def change(self, request: web.Request) -> web.Response:
        name, verb = request.match_info["name"], request.match_info["verb"]
        if name not in self.in_flight:
            return web.Response(status=404)
        if verb == "drain":
            self.drained.add(name)
        else:
            self.drained.discard(name)
            self.undrained.append(name)
        return web.json_response({"endpoint_id": name})


@contextlib.asynccontextmanager
async def fake_router() -> AsyncIterator[FakeRouter]:
    router = FakeRouter()
    app = web.Application()
    app.router.add_get("/admin/endpoints", router.endpoints)
    app.router.add_post("/admin/endpoints/{name}/{verb:drain|undrain}", router.change)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    router.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield router
    finally:
        await runner.cleanup()
