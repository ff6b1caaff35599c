"""Pods as the API server shows them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from shoal.autoscaler.kubernetes.pods import Pod

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod_object(
    name: str, state: str = "ready", *, labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None, created: float = 0.0, ready: float = 30.0,
    owner: str = "ReplicaSet", ip: str = "",
) -> dict[str, Any]:  # fmt: skip
    """`state`: ready, terminating (ready, to be deleted), pending, loading (has a node, is not
    ready), unschedulable, failed."""
    conditions: list[dict[str, Any]] = []
    if state in ("ready", "terminating", "loading"):
        conditions.append({"type": "PodScheduled", "status": "True"})
        is_ready = "False" if state == "loading" else "True"
        conditions.append({"type": "Ready", "status": is_ready, "lastTransitionTime": at(ready)})
    if state == "unschedulable":
        conditions.append(
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
             "message": "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."}
        )  # fmt: skip
    metadata: dict[str, Any] = {
        "name": name, "namespace": "llm", "uid": f"uid-{name}", "labels": labels or {},
        "annotations": annotations or {}, "creationTimestamp": at(created),
        "ownerReferences": [{"kind": owner, "name": "owner", "controller": True}],
    }  # fmt: skip
    if state == "terminating":
        metadata["deletionTimestamp"] = at(ready + 1)
    phase = {"failed": "Failed", "ready": "Running", "terminating": "Running"}.get(state, "Pending")
    status: dict[str, Any] = {"phase": phase, "conditions": conditions}
    if ip:
        status["podIP"] = ip
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {"containers": [{"name": "worker"}]}, "status": status,
    }  # fmt: skip


def pod(name: str, state: str = "ready", **more: Any) -> Pod:
    return msgspec.convert(pod_object(name, state, **more), Pod)


def group_pods(
    index: int, states: str | list[str], *, size: int = 2, name: str = "llama", **more: Any
) -> list[Pod]:
    """The pods of a LeaderWorkerSet's group; one word: all of its pods are so."""
    if isinstance(states, str):
        states = [states] * size
    return [
        pod(
            f"{name}-{index}" if worker == 0 else f"{name}-{index}-{worker}",
            state,
            owner="StatefulSet",
            labels={
                "leaderworkerset.sigs.k8s.io/name": name,
                "leaderworkerset.sigs.k8s.io/group-index": str(index),
                "leaderworkerset.sigs.k8s.io/worker-index": str(worker),
            },
            annotations={"leaderworkerset.sigs.k8s.io/size": str(size)},
            **more,
        )
        for worker, state in enumerate(states)
    ]
