"""What an autoscaler says, over HTTP or within the app, and what it may not say."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from shoal.clock import VirtualClock
from shoal.router.console.scaling import FRESH_S, RETRY_S, Scaling, every_address, scaling_of
from shoal.router.console.scaling_view import ScalingView, runs

MODEL = {
    "model": "m", "slo": {"ttft_s": 0.4},
    "variants": [{"ready": 2, "pending": 1, "draining": 1, "cost_per_hour": 1.5},
                 {"ready": 1, "cost_per_hour": 0.5}],
}  # fmt: skip


class Autoscaler:
    """Answers, and counts what it was asked."""

    def __init__(self, **bodies: Any) -> None:
        self.asked: list[str] = []
        self.status = 200
        self.bodies = {
            "models": {"models": [MODEL]}, "decisions": {"decisions": [{"model": "m", "time": 1}]},
            "history": {"points": [{"time": 1.0}]}, **bodies,
        }  # fmt: skip

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.rpartition("/")[2]
        self.asked.append(str(request.url.copy_with(scheme="http", host="x", port=None)))
        body = self.bodies[name]
        if isinstance(body, Exception):
            raise body
        if isinstance(body, bytes):
            return httpx.Response(self.status, content=body)
        return httpx.Response(self.status, content=json.dumps(body))


def scaling(autoscaler: Autoscaler) -> tuple[Scaling, VirtualClock]:
    clock = VirtualClock(100.0)
    client = httpx.AsyncClient(transport=httpx.MockTransport(autoscaler))
    return Scaling("http://10.0.0.1:9/", client, clock=clock.now), clock


async def test_everything_is_passed_on_and_asked_for_once_in_a_while() -> None:
    autoscaler = Autoscaler()
    source, clock = scaling(autoscaler)
    views = await asyncio.gather(*(source.view("m", 7.5) for _ in range(3)))
    assert views[0] == ScalingView(
        models=[MODEL], decisions=[{"model": "m", "time": 1, "since": 1}],
        history=[{"time": 1.0}], history_of="m",
    )  # fmt: skip
    assert autoscaler.asked.count("http://x/autoscaler/models") == 1
    assert "http://x/autoscaler/history?model=m&since=7.500" in autoscaler.asked
    clock.advance(FRESH_S)
    await source.view("m", 0)
    assert autoscaler.asked.count("http://x/autoscaler/models") == 2


async def test_the_history_is_of_the_first_model_where_the_one_asked_for_is_not_scaled() -> None:
    source, _ = scaling(Autoscaler())
    assert (await source.view("", 0)).history_of == "m"
    assert (await source.view("other", 0)).history_of == "m"
    source, _ = scaling(Autoscaler(models={"models": []}))
    assert (await source.view("m", 0)).history_of == ""


async def test_objectives_and_prices() -> None:
    view = await scaling(Autoscaler())[0].view("m", 0)
    assert (view.ttft_target_s("m"), view.ttft_target_s("other")) == (0.4, None)
    assert (view.cost_per_hour("m"), view.cost_per_hour("")) == (6.5, 6.5)
    assert view.cost_per_hour("other") == 0
    for slo in (None, {}, {"ttft_s": None}, {"ttft_s": "1"}, {"ttft_s": 0}, "fast"):
        assert ScalingView(models=[{"model": "m", "slo": slo}]).ttft_target_s("m") is None


@pytest.mark.parametrize(
    ("bodies", "status", "says"),
    [
        ({"models": httpx.ConnectError("no")}, 200, "does not answer (ConnectError)"),
        ({"decisions": httpx.ReadTimeout("slow")}, 200, "does not answer (ReadTimeout)"),
        ({}, 500, "answered /autoscaler/"),
        ({"models": b"<html>"}, 200, "no JSON"),
        ({"models": b" " * (5 * 1024 * 1024)}, 200, "answered /autoscaler/models"),
        ({"history": httpx.ConnectError("no")}, 200, "does not answer"),
    ],
)
async def test_trouble_is_told_and_not_raised(
    bodies: dict[str, Any], status: int, says: str
) -> None:
    autoscaler = Autoscaler(**bodies)
    autoscaler.status = status
    view = await scaling(autoscaler)[0].view("m", 0)
    assert says in view.error
    assert "http://10.0.0.1:9" in view.error


async def test_its_key_is_shown() -> None:
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return httpx.Response(200, json={})

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    await Scaling("http://x", client, clock=VirtualClock().now, key="k").view("m", 0)
    assert seen == ["Bearer k", "Bearer k"]


async def test_of_two_replicas_the_one_that_scales_is_shown() -> None:
    leader, asked = "10.0.0.2", list[str]()

    async def both(url: str) -> list[str]:
        return ["http://10.0.0.1:9", "http://10.0.0.2:9"]

    async def answer(request: httpx.Request) -> httpx.Response:
        host = request.url.host
        asked.append(host)
        if host == "service":  # whichever of them
            host = "10.0.0.1"
        models = [{**MODEL, "at": host}] if host == leader else []
        return httpx.Response(200, json={"models": models, "decisions": [], "points": []})

    clock = VirtualClock()
    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    source = Scaling("http://service:9", client, clock=clock.now, addresses=both)
    assert (await source.view("m", 0)).models[0]["at"] == leader
    asked.clear()
    clock.advance(FRESH_S)
    assert (await source.view("m", 0)).models[0]["at"] == leader
    assert set(asked) == {leader}
    leader = "10.0.0.1"
    clock.advance(FRESH_S)
    assert (await source.view("m", 0)).models[0]["at"] == leader
    leader = "nobody"
    clock.advance(FRESH_S)
    assert await source.view("m", 0) == ScalingView()


async def test_addresses() -> None:
    assert await every_address("http://127.0.0.1:9/x") == ["http://127.0.0.1:9/x"]
    assert await every_address("http://[::1]:9") == ["http://[::1]:9"]
    assert "http://127.0.0.1:80" in await every_address("http://localhost")
    for url in ("https://127.0.0.1", "http://"):
        assert await every_address(url) == []


async def test_one_in_trouble_is_left_alone_for_a_while() -> None:
    autoscaler = Autoscaler(models=httpx.ConnectError("no"))
    source, clock = scaling(autoscaler)
    await source.view("m", 0)
    autoscaler.bodies["models"] = {"models": [MODEL]}
    clock.advance(FRESH_S)
    assert (await source.view("m", 0)).error
    clock.advance(RETRY_S)
    assert not (await source.view("m", 0)).error


@pytest.mark.parametrize("body", [[], 3, None, {"models": 3}, {"models": [3, None]}, {"x": []}])
async def test_another_shape_is_nothing(body: Any) -> None:
    source, _ = scaling(Autoscaler(models=body, decisions=body, history=body))
    view = await source.view("m", 0)
    assert (view.models, view.decisions, view.error) == ([], [], "")


def decision(time: float, after: int, *, before: int | None = None, model: str = "m",
             kind: str = "steady") -> dict[str, Any]:  # fmt: skip
    return {
        "time": time, "model": model, "valid": True, "desired": {"v": after},
        "before": {"v": after if before is None else before}, "reasons": [{"kind": kind}],
    }  # fmt: skip


def test_what_changes_nothing_is_told_once() -> None:
    found = runs([
        decision(9, 3), decision(8, 3), decision(7.5, 1, model="n"), decision(7, 3),
        decision(6, 3, before=2, kind="demand"),
        decision(5, 2, kind="backlog"), decision(4, 2), decision(3, 2), decision(2, 1, model="n"),
        {}, {},
    ])  # fmt: skip
    assert [(each.get("model"), each.get("time"), each["since"]) for each in found] == [
        ("m", 9, 7), ("n", 7.5, 2), ("m", 6, 6), ("m", 5, 5), ("m", 4, 3), (None, None, None),
    ]  # fmt: skip


async def test_the_routes_of_the_same_app_are_called_without_a_socket() -> None:
    app = FastAPI()

    @app.get("/autoscaler/models")
    async def models() -> dict[str, Any]:
        return {"models": [MODEL]}

    @app.get("/autoscaler/decisions")
    async def decisions() -> dict[str, Any]:
        raise RuntimeError("a fault of theirs")

    view = await scaling_of(app, clock=VirtualClock().now).view("m", 0)
    assert view.error == "The autoscaler answered /autoscaler/decisions with 500."
