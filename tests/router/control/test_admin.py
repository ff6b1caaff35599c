"""The admin API, over a state process that is a stand-in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from shoal.errors import ConfigError, EngineUnavailable, InvalidRequest, NotFound
from shoal.router.control.admin import MAX_BODY_BYTES, create_app
from shoal.router.control.reload import ReloadResult

WORKER = "http://10.0.0.7:8000"
KEYED = {"authorization": "Bearer two"}


class FakeRouter:
    """Its own fleet, too: remembers what it was told."""

    def __init__(self) -> None:
        self.is_draining = False
        self.num_ready = 1
        self.keys: tuple[str, ...] = ()
        self.calls: list[tuple[str, Any]] = []
        self.error: Exception | None = None

    @property
    def fleet(self) -> FakeRouter:
        return self

    def _called(self, name: str, argument: Any = None) -> None:
        self.calls.append((name, argument))
        if self.error is not None:
            raise self.error

    def admin_keys(self) -> tuple[str, ...]:
        return self.keys

    def endpoints(self) -> list[dict[str, Any]]:
        return [{"endpoint_id": WORKER}]

    def held(self) -> dict[str, int]:
        return {"cold": 2}

    async def wait_held(self, model: str, timeout_s: float) -> dict[str, int]:
        self._called("wait_held", (model, timeout_s))
        return {"cold": 2}

    def config(self) -> dict[str, Any]:
        return {"listen": {}}

    def add_endpoint(self, body: bytes) -> str:
        self._called("add", body)
        return WORKER

    def drain(self, endpoint_id: str) -> None:
        self._called("drain", endpoint_id)

    def undrain(self, endpoint_id: str) -> None:
        self._called("undrain", endpoint_id)

    def remove(self, endpoint_id: str) -> None:
        self._called("remove", endpoint_id)

    async def reload(self) -> ReloadResult:
        self._called("reload")
        return ReloadResult(changed=True, needs_restart=["listen.port"])

    async def restart(self) -> int:
        self._called("restart")
        return 2

    async def metrics(self, only: Collection[str] = ()) -> str:
        self._called("metrics", tuple(only))
        return "shoal_router_connections_total 3\n"

    async def decisions(self, limit: int) -> list[dict[str, Any]]:
        self._called("decisions", limit)
        return [{"ts": 1.0}]

    async def connections(self) -> list[dict[str, Any]]:
        return [{"process": 1}]


@pytest.fixture(scope="module")
def app() -> tuple[FakeRouter, Any]:
    """Made once: FastAPI takes 0.1 s to build it."""
    router = FakeRouter()
    return router, create_app(router)


@pytest.fixture
def router(app: tuple[FakeRouter, Any]) -> FakeRouter:
    vars(app[0]).update(vars(FakeRouter()))
    return app[0]


@pytest.fixture
async def client(
    router: FakeRouter, app: tuple[FakeRouter, Any]
) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app[1])
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8081") as found:
        yield found


@pytest.mark.parametrize(
    ("draining", "processes", "status", "word"),
    [(False, 1, 200, "ready"), (False, 0, 503, "starting"), (True, 1, 503, "draining")],
)
async def test_ready(
    router: FakeRouter,
    client: httpx.AsyncClient,
    draining: bool,
    processes: int,
    status: int,
    word: str,
) -> None:
    router.is_draining, router.num_ready = draining, processes
    answer = await client.get("/ready")
    assert (answer.status_code, answer.json()["status"]) == (status, word)
    assert (await client.get("/health")).status_code == 200


async def test_what_there_is_to_see(client: httpx.AsyncClient, router: FakeRouter) -> None:
    metrics = await client.get("/metrics", params={"name[]": ["a", "b"]})
    assert router.calls[-1] == ("metrics", ("a", "b"))
    metrics = await client.get("/metrics")
    assert metrics.text == "shoal_router_connections_total 3\n"
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert (await client.get("/admin/endpoints")).json() == {
        "endpoints": [{"endpoint_id": WORKER}],
        "held": {"cold": 2},
    }
    assert (await client.get("/admin/config")).json() == {"listen": {}}
    assert (await client.get("/debug/connections")).json() == {"processes": [{"process": 1}]}
    assert "/admin/endpoints" in (await client.get("/openapi.json")).json()["paths"]


async def test_demand_is_waited_for_within_bounds(
    router: FakeRouter, client: httpx.AsyncClient
) -> None:
    answer = await client.get("/admin/held", params={"model": "cold", "wait_s": 2.5})
    assert answer.json() == {"held": {"cold": 2}}
    assert router.calls == [("wait_held", ("cold", 2.5))]
    for query in ({"model": "cold", "wait_s": 1e9}, {"wait_s": 1}):
        assert (await client.get("/admin/held", params=query)).status_code == 400


async def test_routes_of_others_are_behind_the_same_keys() -> None:
    def add_routes(app: FastAPI) -> None:
        @app.get("/autoscaler/models")
        async def models() -> dict[str, int]:
            return {"models": 1}

    router = FakeRouter()
    transport = httpx.ASGITransport(create_app(router, [add_routes]))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8081") as client:
        assert (await client.get("/autoscaler/models")).json() == {"models": 1}
        router.keys = ("two",)
        assert (await client.get("/autoscaler/models")).status_code == 401
        assert (await client.get("/autoscaler/models", headers=KEYED)).status_code == 200


async def test_decisions_have_a_limit(router: FakeRouter, client: httpx.AsyncClient) -> None:
    assert (await client.get("/debug/decisions?limit=7")).json() == {"decisions": [{"ts": 1.0}]}
    assert router.calls == [("decisions", 7)]
    answer = await client.get("/debug/decisions?limit=0")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "limit"


@pytest.mark.parametrize("name", [WORKER, "http%3A%2F%2F10.0.0.7%3A8000", "pod-1"])
async def test_endpoints_are_named_by_their_ids(
    router: FakeRouter, client: httpx.AsyncClient, name: str
) -> None:
    endpoint_id = WORKER if "10" in name else name
    assert (await client.post(f"/admin/endpoints/{name}/drain")).status_code == 200
    assert (await client.post(f"/admin/endpoints/{name}/undrain")).status_code == 200
    assert (await client.delete(f"/admin/endpoints/{name}")).status_code == 202
    assert router.calls == [(what, endpoint_id) for what in ("drain", "undrain", "remove")]


async def test_an_endpoint_is_added(router: FakeRouter, client: httpx.AsyncClient) -> None:
    answer = await client.post("/admin/endpoints", content=b'{"url": "x"}')
    assert (answer.status_code, answer.json()) == (201, {"endpoint_id": WORKER})
    assert router.calls == [("add", b'{"url": "x"}')]
    answer = await client.post("/admin/endpoints", content=b" " * (MAX_BODY_BYTES + 1))
    assert answer.status_code == 413


async def test_reload_and_restart(router: FakeRouter, client: httpx.AsyncClient) -> None:
    assert (await client.post("/admin/reload")).json() == {
        "changed": True,
        "needs_restart": ["listen.port"],
    }
    assert (await client.post("/admin/restart")).json() == {"replaced": 2}


@pytest.mark.parametrize(
    ("error", "method", "path", "status", "code"),
    [
        (ConfigError("port is wrong"), "POST", "/admin/reload", 400, "config_error"),
        (EngineUnavailable("busy", retry_after_s=5), "POST", "/admin/restart", 503,
         "engine_unavailable"),
        (InvalidRequest("no url"), "POST", "/admin/endpoints", 400, None),
        (NotFound("no such"), "POST", "/admin/endpoints/x/drain", 404, "not_found"),
        (NotFound("no such"), "DELETE", "/admin/endpoints/x", 404, "not_found"),
        (None, "GET", "/admin/nothing", 404, "not_found"),
        (None, "PUT", "/admin/reload", 405, "method_not_allowed"),
        (KeyError("secret"), "GET", "/metrics", 500, "internal_error"),
    ],
)  # fmt: skip
async def test_errors_have_openais_shape(
    router: FakeRouter,
    client: httpx.AsyncClient,
    error: Exception | None,
    method: str,
    path: str,
    status: int,
    code: str | None,
) -> None:
    router.error = error
    answer = await client.request(method, path)
    assert answer.status_code == status
    body = answer.json()["error"]
    assert body["code"] == code
    assert "secret" not in body["message"]
    if status == 503:
        assert answer.headers["retry-after"] == "5"


async def test_keys_are_asked_for_except_where_probes_look(
    router: FakeRouter, client: httpx.AsyncClient
) -> None:
    router.keys = ("one", "two")
    for path in ("/health", "/ready", "/metrics"):
        assert (await client.get(path)).status_code == 200
    answer = await client.get("/admin/config")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    for header in ("Bearer three", "Bearer", "Basic two", "Bearer one two"):
        headers = {"authorization": header}
        assert (await client.get("/admin/config", headers=headers)).status_code == 401
    assert (await client.get("/admin/config", headers=KEYED)).status_code == 200
    # With a key it does not matter where the request was made.
    headers = {**KEYED, "origin": "https://console", "host": "router.cluster"}
    assert (await client.get("/admin/config", headers=headers)).status_code == 200
    router.keys = ("other",)  # a reload
    assert (await client.get("/admin/config", headers=KEYED)).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "localhost:8081"}, 200),
        ({"host": "[::1]:8081"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": "10.0.0.1"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "none"}, 200),
    ],
)
async def test_without_keys_no_web_page_gets_in(
    client: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    assert (await client.post("/admin/restart", headers=headers)).status_code == status
    assert (await client.get("/metrics", headers=headers)).status_code == 200
