"""The console's double of an autoscaler says nothing that the real one does not say."""

from __future__ import annotations

import time
from typing import Any

import httpx
from fastapi import FastAPI

from shoal.autoscaler.admin.routes import add_routes
from shoal.autoscaler.core.spec import ScalingSpec, VariantSpec
from shoal.autoscaler.policy import ScalingPolicy
from shoal.autoscaler.record.memory import Memory
from shoal.clock import VirtualClock
from shoal.router.console.scaling import scaling_of
from tests.autoscaler.records import WALL, make_record
from tests.router.console.stage import LLAMA, scaling_app


def real() -> FastAPI:
    memory, app = Memory(), FastAPI()
    variant = VariantSpec(max_replicas=6, cost_per_hour=3.0)
    policy = ScalingPolicy(model="m", spec=ScalingSpec(variants=(variant,)))
    memory.add(policy, name="m").record(make_record())
    add_routes(app, memory)
    return app


async def test_the_real_one_is_understood() -> None:
    view = await scaling_of(real(), clock=VirtualClock().now).view("", 0.0)
    assert (view.error, view.history_of, view.ttft_target_s("m")) == ("", "m", 1.0)
    assert view.cost_per_hour("m") == 9.0  # two ready, one pending
    assert view.history[0]["time"] == view.decisions[0]["time"] == WALL + 100
    assert view.decisions[0]["before"] != view.decisions[0]["desired"]
    assert view.history[0]["needed"] == 2.5


async def bodies(app: FastAPI, model: str) -> dict[str, Any]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
        models = (await client.get("/autoscaler/models")).json()["models"]
        query = {"model": model, "since": time.time() - 60 if model == LLAMA else 0.0}
        points = (await client.get("/autoscaler/history", params=query)).json()["points"]
        decisions = (await client.get("/autoscaler/decisions?limit=1")).json()["decisions"]
    return {
        "model": models[0], "variant": models[0]["variants"][0], "slo": models[0]["slo"],
        "point": points[0], "decision": decisions[0], "reason": decisions[0]["reasons"][0],
    }  # fmt: skip


async def test_the_double_speaks_as_the_real_one() -> None:
    said, known = await bodies(scaling_app(LLAMA), LLAMA), await bodies(real(), "m")
    for name, body in said.items():
        assert body.keys() <= known[name].keys(), name
