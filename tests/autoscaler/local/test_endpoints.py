"""The router's list of endpoints, as its admin API tells it."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from shoal.autoscaler.local.endpoints import EndpointsUnavailable, RouterEndpoints

Answer = Callable[[httpx.Request], httpx.Response]


def endpoints(answer: Answer) -> RouterEndpoints:
    return RouterEndpoints(
        "http://127.0.0.1:8081", key="secret", transport=httpx.MockTransport(answer)
    )


async def test_workers_come_and_go() -> None:
    asked: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.raw_path.decode()))
        assert request.headers["authorization"] == "Bearer secret"
        if request.method == "POST":
            assert json.loads(request.content) == {
                "url": "http://127.0.0.1:4000", "name": "worker-0", "engine": "shoal",
            }  # fmt: skip
            return httpx.Response(201, json={"endpoint_id": "worker-0"})
        if request.method == "DELETE":
            return httpx.Response(202, json={})
        listed = [{"endpoint_id": "worker-0", "status": "draining", "in_flight": 2}]
        return httpx.Response(200, json={"endpoints": listed, "held": {}})

    async with endpoints(answer) as found:
        assert await found.add("http://127.0.0.1:4000", "worker-0") == "worker-0"
        assert await found.listed() == {"worker-0": "draining"}
        await found.remove("http://127.0.0.1:4000")
    assert asked == [
        ("POST", "/admin/endpoints"),
        ("GET", "/admin/endpoints"),
        ("DELETE", "/admin/endpoints/http%3A%2F%2F127.0.0.1%3A4000"),
    ]


async def test_one_that_is_gone_already_is_gone() -> None:
    async with endpoints(lambda request: httpx.Response(404)) as found:
        await found.remove("worker-0")


def refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


@pytest.mark.parametrize(
    "answer",
    [
        refuse,
        lambda request: httpx.Response(503, text="ending"),
        lambda request: httpx.Response(200, text="<html>"),
        lambda request: httpx.Response(200, json={"other": 1}),
    ],
)
async def test_a_router_in_trouble(answer: Answer) -> None:
    async with endpoints(answer) as found:
        with pytest.raises(EndpointsUnavailable, match="/admin/endpoints"):
            await found.listed()
        with pytest.raises(EndpointsUnavailable, match="/admin/endpoints"):
            await found.add("http://127.0.0.1:4000", "worker-0")
