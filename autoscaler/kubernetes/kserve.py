"""KServe's objects as targets: the workload that KServe makes of them is what is scaled.

An InferenceService has no `/scale`. With the annotation `serving.kserve.io/autoscalerClass:
external` KServe leaves `spec.replicas` of its Deployment `NAME-predictor` to others; it passes
`predictor.minReplicas` on with the class `none` alone, so that patching it would change nothing.
Without the annotation KServe or an HPA of its would undo what we write, so we refuse.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .api import Api
from .resources import Reference, Unscalable, reading
from .workload import LEADER_WORKER_SET

CLASS_ANNOTATION = "serving.kserve.io/autoscalerClass"
STOP_ANNOTATION = "serving.kserve.io/stop"
EXTERNAL = "external"
LWS_VERSION = "leaderworkerset.x-k8s.io/v1"
PLURALS = {
    "InferenceService": "inferenceservices",
    "LLMInferenceService": "llminferenceservices",
}


class _Metadata(msgspec.Struct):
    annotations: dict[str, str] = {}


class _Spec(msgspec.Struct):
    """The fields of both kinds that matter here."""

    replicas: int | None = None
    scaling: dict[str, Any] | None = None
    worker: dict[str, Any] | None = None


class Service(msgspec.Struct):
    """An InferenceService or LLMInferenceService."""

    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    spec: _Spec = msgspec.field(default_factory=_Spec)


_decoder = msgspec.json.Decoder(Service)


def is_kserve(reference: Reference) -> bool:
    return reference.api_version.startswith("serving.kserve.io/") and reference.kind in PLURALS


def workloads_of(reference: Reference) -> tuple[Reference, ...]:
    """What may be scaled for it, without asking: to tell whether two references are one."""
    if not is_kserve(reference):
        return (reference,)
    if reference.kind == "InferenceService":
        return (_predictor(reference),)
    return _single(reference), _multi_node(reference)


def workload_reference(reference: Reference, service: Service) -> Reference:
    """What to scale for it. Raises Unscalable with the way to mend it."""
    if service.metadata.annotations.get(STOP_ANNOTATION) == "true":
        raise Unscalable("Stopped", f"{reference} is stopped by its annotation {STOP_ANNOTATION}")
    if reference.kind == "InferenceService":
        return _of_inference_service(reference, service)
    return _of_llm_service(reference, service)


def _of_inference_service(reference: Reference, service: Service) -> Reference:
    found = service.metadata.annotations.get(CLASS_ANNOTATION)
    if found != EXTERNAL:
        has = "has no such annotation" if found is None else f"has {found!r}"
        raise Unscalable(
            "NotExternal",
            f"{reference} {has}: set the annotation {CLASS_ANNOTATION}: {EXTERNAL}, or KServe"
            " undoes what we scale",
        )
    return _predictor(reference)


def _of_llm_service(reference: Reference, service: Service) -> Reference:
    """One pod a replica: a Deployment. Several (`worker`): a LeaderWorkerSet."""
    for name in ("replicas", "scaling"):
        if getattr(service.spec, name) is not None:
            raise Unscalable(
                "NotExternal",
                f"{reference} sets spec.{name}: leave it out, or KServe undoes what we scale",
            )
    return _single(reference) if service.spec.worker is None else _multi_node(reference)


def _predictor(reference: Reference) -> Reference:
    name = f"{reference.name}-predictor"
    return Reference("apps/v1", "Deployment", reference.namespace, name)


def _single(reference: Reference) -> Reference:
    return Reference("apps/v1", "Deployment", reference.namespace, f"{reference.name}-kserve")


def _multi_node(reference: Reference) -> Reference:
    name = f"{reference.name}-kserve-mn"
    return Reference(LWS_VERSION, LEADER_WORKER_SET, reference.namespace, name)


async def resolve(api: Api, reference: Reference) -> Reference:
    """The reference itself, or the workload behind a KServe object. Raises ClusterError."""
    if not is_kserve(reference):
        return reference
    collection = f"/apis/{reference.api_version}/namespaces/{reference.namespace}"
    with reading(reference):
        answer = await api.get(f"{collection}/{PLURALS[reference.kind]}/{reference.name}")
    return workload_reference(reference, _decoder.decode(answer))
