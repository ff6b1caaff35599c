"""The console of a real router: what its counters become, what people do, what they see."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.router.console.browser import CHROMIUM, browser
from tests.router.console.pictures import look_around
from tests.router.console.serving import serving
from tests.router.console.stage import scaling_app
from tests.router.e2e.asking import eventually
from tests.router.e2e.conftest import StartWorkers
from tests.router.e2e.load import load
from tests.router.e2e.routers import Router
from tests.router.e2e.workers import MODEL, FakeWorker

QUESTION = {"model": MODEL, "messages": [{"role": "user", "content": "Why?"}]}


def data(router: Router, **query: Any) -> dict[str, Any]:
    answer = router.admin.get("/console/data", params=query)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


async def test_what_a_page_is_told(workers: list[FakeWorker], router: Router) -> None:
    router.configure(workers)
    start = max(data(router)["points"]["time"], default=0.0)
    async with load(router.url, num_clients=3) as asking:
        await asking.more(30)
        await eventually(
            lambda: len(data(router, since=start)["points"]["time"]) >= 2, "two samples"
        )
        found = data(router, model=MODEL)
    figures = found["figures"]
    assert figures["requests_per_s"] > 0
    assert figures["output_tokens_per_s"] > figures["requests_per_s"]
    assert figures["ttft_p50_s"] > 0.004  # the workers' own
    assert 0 <= figures["attainment"] <= 1
    assert (figures["ready"], figures["failed_per_s"]) == (3, 0)
    assert found["models"] == [MODEL]
    assert {each["endpoint_id"] for each in found["endpoints"]} == {w.url for w in workers}
    assert found["decisions"][0]["model"] == MODEL
    assert found["scaling"] is None


async def test_an_answer_and_where_it_came_from(workers: list[FakeWorker], router: Router) -> None:
    router.configure(workers)
    page = {"origin": str(router.admin.base_url), "sec-fetch-site": "same-origin"}
    answer = router.admin.post("/console/chat", json={**QUESTION, "max_tokens": 5}, headers=page)
    assert answer.status_code == 200
    assert answer.text.count('"content":') == 6
    path = f"/console/decisions/{answer.headers['x-request-id']}"
    (decision,) = router.admin.get(path).json()["decisions"]
    assert decision["endpoint"] in {worker.url for worker in workers}
    assert router.admin.get("/console/chat/models").json()["data"][0]["id"] == MODEL


async def test_a_page_that_is_closed_ends_its_request_at_the_worker(
    start_workers: StartWorkers, router: Router
) -> None:
    (worker,) = start_workers(1, "--ttft", "0.01", "--itl", "0.05")
    router.configure([worker])
    async with (
        httpx.AsyncClient(base_url=router.admin.base_url, trust_env=False) as client,
        client.stream("POST", "/console/chat", json={**QUESTION, "max_tokens": 4000}) as answer,
    ):
        assert answer.status_code == 200
        await anext(answer.aiter_bytes())
        assert worker.num_running == 1
    await eventually(lambda: worker.num_running == 0, "the worker to be told")


@pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed: nobody has looked at the console"
)
async def test_people_see_a_real_router_and_its_autoscaler(
    workers: list[FakeWorker], router: Router, tmp_path: Path
) -> None:
    async with serving(scaling_app(MODEL)) as port, browser(tmp_path) as chromium:
        autoscaler = {"autoscaler_url": f"http://127.0.0.1:{port}"}
        router.configure(workers, {"admin": autoscaler})
        async with load(router.url, num_clients=3) as asking:
            await asking.more(20)
        page = await chromium.open(str(router.admin.base_url), width=1280, height=900)
        await look_around(page)
        await page.until("document.querySelector('#chart-tokens .fill').getAttribute('d')")
        assert not await page.run("document.documentElement.scrollWidth > innerWidth")
        told = await page.run("document.querySelector('.told').innerText")
        assert "tokens per second" in told
        assert any(worker.url.removeprefix("http://") in told for worker in workers)
        # A worker of the test before is listed as draining for a second.
        await page.until("document.body.innerText.includes('3 of 3 workers ready, 1 model')")
        assert "→" in await page.run("document.querySelector('#scaling').innerText")
        assert page.troubles == []
    await asyncio.to_thread(router.configure, workers)
