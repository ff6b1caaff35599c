"""The definition of ScalingPolicy on a real API server: what it takes, what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from .cluster.api import Api, ApiError, at
from .cluster.policies import create_policy, policy, variant


async def test_a_policy_is_kept_as_it_was_written(api: Api, namespace: str) -> None:
    body = policy(
        "m", router="http://127.0.0.1:8081", gpu_budget=4,
        variants=[
            variant("big", "Deployment", max_replicas=2, endpointLabels={"app": "big"}),
            variant("lws", "LeaderWorkerSet", podsPerReplica=4, endpointLabels={"app": "lws"}),
        ],
    )  # fmt: skip
    created = await api.create(at("scalingpolicies", namespace), body)
    assert created["spec"] == body["spec"]


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("mode", "maybe"),
        ("model", ""),
        ("intervalSeconds", 0.0),
        ("variants", []),
        ("slo", {"attainment": 1.5}),
        ("pace", {"maxUpStep": 0}),
        ("router", {"url": "ftp://router"}),
        ("variants", [{"name": "a", "target": {"kind": "Deployment"}}]),
    ],
)
async def test_a_wrong_value_is_refused(api: Api, namespace: str, where: str, value: Any) -> None:
    body = policy("m", router="http://127.0.0.1:8081")
    body["spec"][where] = value
    with pytest.raises(ApiError) as refused:
        await api.create(at("scalingpolicies", namespace), body)
    assert refused.value.code == 422
    assert where in refused.value.status["message"]


async def test_status_is_apart_from_the_spec(api: Api, namespace: str) -> None:
    created = await create_policy(api, namespace, "m", router="http://127.0.0.1:8081")
    path = at("scalingpolicies", namespace, "m")
    await api.merge(f"{path}/status", {"status": {"message": "all is well", "desired": 2}})
    changed = await api.merge(path, {"status": {"message": "not this way"}})
    assert changed["status"] == {"message": "all is well", "desired": 2}
    assert changed["metadata"]["generation"] == created["metadata"]["generation"]
