"""A double of KServe's controller for standard deployments: `<name>-predictor` and its status.

With `serving.kserve.io/autoscalerClass: external` the real one makes the Deployment with
`minReplicas` and leaves its replicas to somebody else from there on; so does this one.
"""

from __future__ import annotations

import asyncio

import httpx

from .api import Api, ApiError, Json, Mirror, at

ISVC_LABEL = "serving.kserve.io/inferenceservice"


class KserveController:
    """All InferenceServices of one namespace."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._services = Mirror(api, at("inferenceservices", namespace))
        self._deployments = Mirror(api, at("deployments", namespace), labelSelector=ISVC_LABEL)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for mirror in (self._services, self._deployments):
                tasks.create_task(mirror.run())
            while True:
                await self._reconcile_all()
                await asyncio.sleep(0.1)

    async def _reconcile_all(self) -> None:
        for service in list(self._services.objects.values()):
            try:
                await self._reconcile(service)
            except (httpx.HTTPError, ApiError):
                continue  # in the next round

    async def _reconcile(self, service: Json) -> None:
        name = service["metadata"]["name"]
        deployment = self._deployments.objects.get(f"{name}-predictor")
        if deployment is None:
            await self._api.create(at("deployments", self._namespace), predictor_of(service))
            return
        available = deployment.get("status", {}).get("availableReplicas", 0)
        is_ready = "True" if available >= deployment["spec"]["replicas"] else "False"
        conditions = [{"type": kind, "status": is_ready} for kind in ("PredictorReady", "Ready")]
        if service.get("status", {}).get("conditions") != conditions:
            path = at("inferenceservices", self._namespace, name, "status")
            await self._api.merge(path, {"status": {"conditions": conditions}})


def predictor_of(service: Json) -> Json:
    """The Deployment, with the labels that KServe gives it."""
    name, predictor = service["metadata"]["name"], service["spec"]["predictor"]
    labels = {"app": f"isvc.{name}-predictor", ISVC_LABEL: name, "component": "predictor"}
    owner = {
        "apiVersion": service["apiVersion"], "kind": service["kind"], "name": name,
        "uid": service["metadata"]["uid"], "controller": True,
    }  # fmt: skip
    pod_fields = ("containers", "nodeSelector", "terminationGracePeriodSeconds")
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"{name}-predictor", "labels": labels, "ownerReferences": [owner]},
        "spec": {
            "replicas": predictor.get("minReplicas", 1),
            "selector": {"matchLabels": {"app": labels["app"]}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {key: predictor[key] for key in pod_fields if key in predictor},
            },
        },
    }
