"""ScalingPolicy objects for the tests: in a hurry, for what takes minutes elsewhere."""

from __future__ import annotations

from typing import Any

from .api import Api, Json, at
from .fake_router import MODEL

API_VERSIONS = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "LeaderWorkerSet": "leaderworkerset.x-k8s.io/v1",
    "InferenceService": "serving.kserve.io/v1beta1",
}


def variant(
    name: str = "default", kind: str = "Deployment", *, target: str = "", min_replicas: int = 0,
    max_replicas: int = 8, **more: Any,
) -> Json:  # fmt: skip
    """`target` is named as the variant, unless told."""
    reference = {"kind": kind, "name": target or name, "apiVersion": API_VERSIONS[kind]}
    return {
        "name": name, "target": reference, "minReplicas": min_replicas,
        "maxReplicas": max_replicas, **more,
    }  # fmt: skip


def policy(
    name: str, *, router: str, variants: list[Json] | None = None, mode: str = "auto",
    gpu_budget: int | None = None, model: str = MODEL, **pace: Any,
) -> Json:  # fmt: skip
    """Decides five times a second, gives up what was not needed for a second, and everything
    after two seconds without a request."""
    hurry = {
        "scaleDownDelaySeconds": 1, "scaleToZeroAfterSeconds": 2, "startUpSeconds": 1,
        "unschedulableAfterSeconds": 1, "maxUpFactor": 10, "maxUpStep": 10,
    }  # fmt: skip
    budget = {} if gpu_budget is None else {"gpuBudget": gpu_budget}
    return {
        "apiVersion": "autoscaling.shoal.dev/v1alpha1",
        "kind": "ScalingPolicy",
        "metadata": {"name": name},
        "spec": {
            "model": model,
            "mode": mode,
            "intervalSeconds": 0.2,
            "router": {"url": router},
            "pace": {**hurry, **pace},
            "variants": variants or [variant(target="m")],
            **budget,
        },
    }


async def create_policy(api: Api, namespace: str, name: str, **how: Any) -> Json:
    return await api.create(at("scalingpolicies", namespace), policy(name, **how))
