from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from shoal.autoscaler.admin.app import create_app
from shoal.autoscaler.core.decision import Decision, Reason, ReasonKind
from shoal.autoscaler.core.spec import ScalingSpec, VariantSpec
from shoal.autoscaler.policy import Mode, ScalingPolicy
from shoal.autoscaler.record.memory import Memory
from shoal.autoscaler.telemetry import Telemetry
from tests.autoscaler.records import WALL, make_record

KEY = "sk-admin"


class Served:
    """The app over memory, and a client of it."""

    def __init__(self, *, keys: tuple[str, ...] = ()) -> None:
        self.memory = Memory()
        self.is_ready = False
        app = create_app(
            self.memory, Telemetry(self.memory), keys=keys, is_ready=lambda: self.is_ready
        )
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8082"
        )

    async def get(self, path: str, status: int = 200, **params: Any) -> Any:
        answer = await self.client.get(path, params=params)
        assert answer.status_code == status, answer.text
        return answer.json()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    yield served
    await served.client.aclose()


def policy(mode: Mode = Mode.AUTO) -> ScalingPolicy:
    variant = VariantSpec(
        min_replicas=1, max_replicas=6, pods_per_replica=2, gpus_per_pod=4, cost_per_hour=36.0
    )
    return ScalingPolicy(model="m", mode=mode, spec=ScalingSpec(variants=(variant,), gpu_budget=48))


async def test_a_model_with_all_that_is_known(served: Served) -> None:
    served.memory.add(policy(), name="llm/a").record(make_record())
    decision = {
        "time": WALL + 100, "model": "m", "mode": "auto", "applied": True,
        "before": {"default": 3}, "desired": {"default": 4}, "valid": True,
        "reasons": [{"kind": "demand", "variant": "default", "detail": "load 2.50"}],
        "explain": {"default.load": 2.5, "arrivals_per_s": 2.0}, "failures": {},
    }  # fmt: skip
    assert await served.get("/autoscaler/models") == {
        "models": [
            {
                "model": "m", "policy": "llm/a", "mode": "auto", "interval_s": 5.0,
                "slo": {"ttft_s": 1.0, "tpot_s": 0.05, "attainment": 0.99}, "gpu_budget": 48,
                "variants": [
                    {
                        "name": "default", "role": "both", "desired": 4, "ready": 2, "pending": 1,
                        "unschedulable": 0, "draining": 0, "min_replicas": 1, "max_replicas": 6,
                        "gpus_per_replica": 8, "cost_per_hour": 36.0,
                    }
                ],
                "demand": {
                    "arrivals_per_s": 2.0, "queued": 4, "held": 0, "input_tokens_per_s": 200.0,
                    "output_tokens_per_s": 100.0,
                },
                "attainment": 0.8, "tokens_per_s": 100.0,
                "tokens_per_dollar": pytest.approx(100.0 / 0.03), "last_decision": decision,
            }
        ]
    }  # fmt: skip
    assert await served.get("/autoscaler/decisions") == {"decisions": [decision]}
    assert await served.get("/debug/decisions") == {"decisions": [decision]}


async def test_a_model_before_its_first_decision(served: Served) -> None:
    served.memory.add(policy())
    [model] = (await served.get("/autoscaler/models"))["models"]
    assert (model["last_decision"], model["attainment"], model["tokens_per_dollar"]) == (None,) * 3
    assert model["demand"]["arrivals_per_s"] is None
    assert model["variants"][0]["ready"] is None


async def test_advice_is_not_what_the_target_wants(served: Served) -> None:
    served.memory.add(policy(Mode.ADVISE)).record(make_record(mode="advise", applied=False))
    [model] = (await served.get("/autoscaler/models"))["models"]
    assert model["variants"][0]["desired"] == 3
    assert model["last_decision"]["desired"] == {"default": 4}


async def test_history(served: Served) -> None:
    memory = served.memory.add(policy(), name="llm/a")
    for now in (0.0, 5.0, 10.0):
        memory.record(make_record(now=now))
    points = (await served.get("/autoscaler/history", model="m", since=WALL + 1))["points"]
    assert [point["time"] - WALL for point in points] == [5.0, 10.0]
    assert points[0] == {
        "time": WALL + 5, "model": "m", "desired": 4, "ready": 2, "pending": 1, "needed": 2.5,
        "arrivals_per_s": 2.0, "queued": 4, "held": 0, "attainment": 0.8,
        "output_tokens_per_s": 100.0, "cost_per_hour": 108.0,
    }  # fmt: skip
    assert await served.get("/autoscaler/history", model="llm/a") != {"points": []}
    error = (await served.get("/autoscaler/history", 404, model="x"))["error"]
    assert (error["param"], error["code"]) == ("model", "not_found")


async def test_decisions_newest_first_and_no_more_than_asked_for(served: Served) -> None:
    memory = served.memory.add(policy())
    for now in (0.0, 5.0, 10.0):
        memory.record(make_record(now=now))
    found = (await served.get("/autoscaler/decisions", limit=2))["decisions"]
    assert [d["time"] - WALL for d in found] == [10.0, 5.0]
    error = (await served.get("/autoscaler/decisions", 400, limit=0))["error"]
    assert error["param"] == "limit"


async def test_an_infinite_number_is_no_broken_json(served: Served) -> None:
    decision = Decision(
        desired={"default": 1}, valid=True, explain={"default.load": float("nan")},
        reasons=(Reason(ReasonKind.DEMAND, "default", ""),),
    )  # fmt: skip
    served.memory.add(policy()).record(make_record(decision=decision))
    [found] = (await served.get("/autoscaler/decisions"))["decisions"]
    assert found["explain"] == {"default.load": None}


async def test_health_readiness_and_metrics(served: Served) -> None:
    assert await served.get("/health") == {"status": "ok"}
    assert await served.get("/ready", 503) == {"status": "starting"}
    served.is_ready = True
    assert await served.get("/ready") == {"status": "ready"}
    answer = await served.client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "shoal_autoscaler_is_leader 1.0" in answer.text


async def test_what_is_not_there_is_told_in_openais_shape(served: Served) -> None:
    error = (await served.get("/nothing", 404))["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "not_found")


@pytest.mark.parametrize(("key", "status"), [(None, 401), ("wrong", 401), (KEY, 200)])
async def test_with_a_key_only_its_bearers_may_ask(key: str | None, status: int) -> None:
    served = Served(keys=("sk-other", KEY))
    if key is not None:
        served.client.headers["authorization"] = f"Bearer {key}"
    await served.get("/autoscaler/models", status)
    assert (await served.client.get("/metrics")).status_code == 200


async def test_without_keys_a_page_of_another_site_may_not_ask(served: Served) -> None:
    answer = await served.client.get(
        "/autoscaler/models", headers={"origin": "http://evil.example"}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    assert "--admin-key-file" in answer.json()["error"]["message"]
