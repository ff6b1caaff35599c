from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shoal.autoscaler.kubernetes.kserve import Service, workload_reference, workloads_of
from shoal.autoscaler.kubernetes.resources import Reference, Unscalable

EXTERNAL = {"serving.kserve.io/autoscalerClass": "external"}
ISVC = Reference("serving.kserve.io/v1beta1", "InferenceService", "llm", "m")
LLM = Reference("serving.kserve.io/v1alpha2", "LLMInferenceService", "llm", "m")


def service(annotations: dict[str, str] | None = None, **spec: Any) -> Service:
    body = {"metadata": {"name": "m", "annotations": annotations or {}}, "spec": spec}
    return msgspec.json.decode(msgspec.json.encode(body), type=Service)


@pytest.mark.parametrize(
    ("reference", "made", "kind", "name"),
    [
        (ISVC, service(EXTERNAL, predictor={"minReplicas": 1}), "Deployment", "m-predictor"),
        (LLM, service(template={}), "Deployment", "m-kserve"),
        (LLM, service(worker={"containers": []}), "LeaderWorkerSet", "m-kserve-mn"),
    ],
)
def test_the_workload_of_a_service(
    reference: Reference, made: Service, kind: str, name: str
) -> None:
    found = workload_reference(reference, made)
    assert (found.kind, found.namespace, found.name) == (kind, "llm", name)
    assert found in workloads_of(reference)


@pytest.mark.parametrize(
    ("reference", "made", "reason", "message"),
    [
        (ISVC, service(), "NotExternal", "has no such annotation: set the annotation"),
        (ISVC, service({"serving.kserve.io/autoscalerClass": "hpa"}), "NotExternal", "has 'hpa'"),
        (ISVC, service({**EXTERNAL, "serving.kserve.io/stop": "true"}), "Stopped", "is stopped"),
        (LLM, service(replicas=2), "NotExternal", "sets spec.replicas: leave it out"),
        (LLM, service(scaling={"minReplicas": 1}), "NotExternal", "sets spec.scaling"),
    ],
)
def test_what_kserve_would_undo_is_refused(
    reference: Reference, made: Service, reason: str, message: str
) -> None:
    with pytest.raises(Unscalable, match=message) as caught:
        workload_reference(reference, made)
    assert caught.value.reason == reason


def test_others_are_what_they_are() -> None:
    deployment = Reference("apps/v1", "Deployment", "llm", "m")
    assert workloads_of(deployment) == (deployment,)
