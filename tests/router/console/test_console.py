"""The console's routes over a staged router: who gets what, and the shape of the data."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from shoal.router.console.console import NUM_DECISIONS, Console
from shoal.router.console.figures import COLUMNS
from shoal.router.control.admin import create_app
from shoal.router.settings.config import RouterConfig
from shoal.router.settings.listen import AdminConfig
from tests.router.console.stage import LLAMA, QWEN, StagedRouter, autoscaler, staged

BASE = "http://127.0.0.1:8081"


class Stage:
    def __init__(self, router: StagedRouter, app: Any) -> None:
        self.router = router
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    router = StagedRouter()
    console = Console(router, await staged(router, span_s=60.0))
    app = create_app(
        router, [autoscaler(lambda: router.at), console.add_routes], open_paths=console.open_paths
    )
    found = Stage(router, app)
    async with found.client:
        yield found


async def test_the_address_leads_to_the_page(stage: Stage) -> None:
    for path in ("/", "/console"):
        answer = await stage.client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (307, "/console/")
    page = await stage.client.get("/console/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-cache"
    script = await stage.client.get("/console/main.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert script.headers["content-security-policy"] == page.headers["content-security-policy"]
    assert (await stage.client.get("/console/../pages.py")).status_code == 404
    assert (await stage.client.get("/console/nothing.js")).status_code == 404


async def test_a_browser_that_has_a_file_is_told_so(stage: Stage) -> None:
    first = await stage.client.get("/console/base.css")
    for header in (first.headers["etag"], f'"other", W/{first.headers["etag"]}'):
        again = await stage.client.get("/console/base.css", headers={"if-none-match": header})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    changed = await stage.client.get("/console/base.css", headers={"if-none-match": '"other"'})
    assert changed.status_code == 200


async def test_data(stage: Stage) -> None:
    answer = await stage.client.get("/console/data")
    assert answer.headers["cache-control"] == "no-store"
    data = answer.json()
    assert (data["status"], data["models"]) == ("ready", [LLAMA, QWEN])
    assert data["target_s"] == 0.5  # the autoscaler's objective
    assert list(data["points"]) == list(COLUMNS)
    assert len(data["points"]["time"]) == len(data["points"]["queued"]) > 25
    assert data["figures"]["requests_per_s"] > 1
    assert data["figures"]["tokens_per_cost"] > 0
    assert len(data["decisions"]) == NUM_DECISIONS
    assert {each["breaker"] for each in data["endpoints"]} == {"closed", "half_open"}
    scaling = data["scaling"]
    assert (scaling["history_of"], scaling["error"]) == (LLAMA, "")
    assert len(scaling["history"]) > 600
    assert all("since" in decision for decision in scaling["decisions"])


async def test_data_of_one_model_since_the_last_look(stage: Stage) -> None:
    everything = (await stage.client.get("/console/data")).json()
    last = everything["points"]["time"][-3]
    query: dict[str, str | float] = {"model": QWEN, "since": last, "scaling_since": last}
    data = (await stage.client.get("/console/data", params=query)).json()
    assert data["points"]["time"] == everything["points"]["time"][-2:]
    assert data["figures"]["requests_per_s"] < everything["figures"]["requests_per_s"]
    assert all(point["time"] > last for point in data["scaling"]["history"])
    assert (await stage.client.get("/console/data?since=x")).status_code == 400
    assert (await stage.client.get("/console/data?since=-1")).status_code == 400


async def test_where_one_request_went(stage: Stage) -> None:
    newest = (await stage.router.decisions(1))[0]
    path = f"/console/decisions/{newest['request_id']}"
    assert (await stage.client.get(path)).json()["decisions"][0]["endpoint"] == newest["endpoint"]
    assert (await stage.client.get("/console/decisions/none")).json() == {"decisions": []}


async def test_keys_lock_the_data_and_not_the_page(stage: Stage) -> None:
    stage.router.keys = ("one",)
    for path in ("/", "/console/", "/console/main.js", "/console/icon.svg"):
        assert (await stage.client.get(path)).status_code in (200, 307)
    locked = ("/console/data", "/console/decisions/x", "/console/chat/models")
    for path in locked:
        assert (await stage.client.get(path)).status_code == 401
    assert (await stage.client.post("/console/chat", json={})).status_code == 401
    keyed = {"authorization": "Bearer one"}
    assert (await stage.client.get("/console/data", headers=keyed)).status_code == 200
    assert (await stage.client.get("/console/data?key=one")).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": BASE, "sec-fetch-site": "same-origin"}, 200),
        ({"origin": "http://localhost:8081", "host": "localhost:8081"}, 200),
        ({"origin": "http://[::1]:8081", "host": "[::1]:8081"}, 200),
        ({"origin": "http://127.0.0.1:9999"}, 403),  # another program of this machine
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "http://evil.example", "host": "evil.example"}, 403),  # DNS rebinding
        ({"origin": "null"}, 403),
        ({"origin": BASE, "sec-fetch-site": "cross-site"}, 403),
    ],
)
async def test_the_pages_own_requests_pass_and_those_of_others_do_not(
    stage: Stage, headers: dict[str, str], status: int
) -> None:
    answer = await stage.client.post("/admin/endpoints/worker-a/drain", headers=headers, json={})
    assert answer.status_code == status
    assert stage.router.drained == ({"worker-a"} if status == 200 else set())


async def test_without_an_autoscaler_the_router_is_shown_alone() -> None:
    router = StagedRouter()
    router.settings = RouterConfig(admin=AdminConfig(ttft_target_s=2.0))
    console = Console(router, await staged(router, span_s=10.0))
    data = await console.data("", 0.0, 0.0)
    assert (data["scaling"], data["target_s"]) == (None, 2.0)
    # A reload names one.
    router.settings = RouterConfig(admin=AdminConfig(autoscaler_url="http://127.0.0.1:1"))
    data = await console.data("", 0.0, 0.0)
    assert "http://127.0.0.1:1 does not answer" in data["scaling"].error
    assert data["target_s"] == 1.0
