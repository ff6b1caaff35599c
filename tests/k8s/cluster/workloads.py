"""What is scaled in the tests: a Deployment, a LeaderWorkerSet, an InferenceService."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .api import Api, Json, at
from .fake_kubelet import GPU, NODE_OF
from .lws_controller import is_ready


def pod_spec(namespace: str, *, gpus: int, node_labels: Mapping[str, str] | None = None) -> Json:
    """One container with so many GPUs, on nodes of this namespace."""
    resources = {"limits": {GPU: str(gpus)}} if gpus else {}
    return {
        "nodeSelector": {NODE_OF: namespace, **(node_labels or {})},
        "containers": [{"name": "worker", "image": "shoal:test", "resources": resources}],
    }


async def create_deployment(
    api: Api, namespace: str, name: str, *, replicas: int = 0, gpus: int = 1, surge: int = 1,
    **node_labels: str,
) -> Json:  # fmt: skip
    labels = {"app": name}
    body: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": labels},
                "spec": pod_spec(namespace, gpus=gpus, node_labels=node_labels),
            },
        },
    }
    return await api.create(at("deployments", namespace), body)


async def create_stateful_set(api: Api, namespace: str, name: str, *, replicas: int = 0) -> Json:
    labels = {"app": name}
    body = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "serviceName": name,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec(namespace, gpus=1)},
        },
    }
    return await api.create(at("statefulsets", namespace), body)


def lws(
    namespace: str, name: str, *, replicas: int = 0, size: int = 2, gpus: int = 1, surge: int = 0,
    leader_ready: bool = False,
) -> Json:  # fmt: skip
    rollout = {"maxSurge": surge, "maxUnavailable": 0 if surge else 1}
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "startupPolicy": "LeaderReady" if leader_ready else "LeaderCreated",
            "rolloutStrategy": {"type": "RollingUpdate", "rollingUpdateConfiguration": rollout},
            "leaderWorkerTemplate": {
                "size": size,
                "workerTemplate": {"spec": pod_spec(namespace, gpus=gpus)},
            },
        },
    }


async def create_lws(api: Api, namespace: str, name: str, **how: Any) -> Json:
    return await api.create(at("leaderworkersets", namespace), lws(namespace, name, **how))


def inference_service(namespace: str, name: str, *, min_replicas: int = 1) -> Json:
    """Whose replicas are left to us: `autoscalerClass: external`."""
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "annotations": {"serving.kserve.io/autoscalerClass": "external"},
        },
        "spec": {"predictor": {"minReplicas": min_replicas, **pod_spec(namespace, gpus=1)}},
    }


async def create_inference_service(api: Api, namespace: str, name: str, **how: Any) -> Json:
    body = inference_service(namespace, name, **how)
    return await api.create(at("inferenceservices", namespace), body)


async def roll_out(api: Api, namespace: str, name: str, image: str) -> None:
    """Give a Deployment's pods another image."""
    container = {"name": "worker", "image": image, "resources": {"limits": {GPU: "1"}}}
    body = {"spec": {"template": {"spec": {"containers": [container]}}}}
    await api.merge(at("deployments", namespace, name), body)


async def pod_names(api: Api, namespace: str, *, ready: bool | None = None) -> list[str]:
    """Of pods that are not ending, in order; `ready` picks those that are, or are not."""
    return sorted(
        pod["metadata"]["name"]
        for pod in await api.items(at("pods", namespace))
        if not pod["metadata"].get("deletionTimestamp") and ready in (None, is_ready(pod))
    )
