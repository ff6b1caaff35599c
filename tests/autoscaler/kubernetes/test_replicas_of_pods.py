from __future__ import annotations

import pytest

from shoal.autoscaler.kubernetes.pods import PodState, state_of, why_unschedulable
from shoal.autoscaler.kubernetes.replicas_of_pods import replicas_of_pods
from shoal.autoscaler.target import Replicas
from tests.autoscaler.kubernetes.objects import pod


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ("ready", PodState.READY),
        ("pending", PodState.PENDING),
        ("loading", PodState.PENDING),
        ("unschedulable", PodState.UNSCHEDULABLE),
        ("terminating", PodState.DRAINING),
        ("failed", PodState.OVER),
    ],
)
def test_the_state_of_a_pod(state: str, found: PodState) -> None:
    assert state_of(pod("a", state)) is found


@pytest.mark.parametrize(
    ("states", "wanted", "ready", "pending", "unschedulable", "draining"),
    [
        ([], 0, 0, 0, 0, 0),
        ([], 3, 0, 0, 0, 0),  # asked for, and not created yet
        (["ready", "ready"], 2, 2, 0, 0, 0),
        (["ready", "loading", "unschedulable"], 3, 1, 2, 1, 0),
        (["ready", "terminating"], 1, 1, 0, 0, 1),
        (["ready", "failed"], 2, 1, 0, 0, 0),  # evicted: its controller makes another
        # A rollout with maxSurge 1: what is beyond spec.replicas is nobody's order.
        (["ready", "ready", "loading"], 2, 2, 0, 0, 0),
        (["ready", "ready", "ready", "loading"], 3, 3, 0, 0, 0),
        (["ready", "ready", "ready"], 2, 2, 0, 0, 0),
        # The surge has no place, and nothing that was asked for is missing.
        (["ready", "ready", "unschedulable"], 2, 2, 0, 0, 0),
        # The surge has no place, and one that was asked for is loading.
        (["ready", "loading", "unschedulable"], 2, 1, 1, 0, 0),
        # Just lowered: the pods are not deleted yet.
        (["ready", "ready", "ready"], 0, 0, 0, 0, 0),
    ],
)
def test_pods_as_replicas(
    states: list[str], wanted: int, ready: int, pending: int, unschedulable: int, draining: int
) -> None:
    pods = [pod(f"p{i}", state) for i, state in enumerate(states)]
    assert replicas_of_pods(pods, wanted) == Replicas(
        desired=wanted, ready=ready, pending=pending, unschedulable=unschedulable,
        draining=draining,
    )  # fmt: skip


def test_pods_that_we_empty_are_draining_and_no_longer_wanted() -> None:
    pods = [pod("a"), pod("b"), pod("c", "loading")]
    assert replicas_of_pods(pods, 2, {"b"}) == Replicas(desired=2, ready=1, pending=1, draining=1)


def test_the_scheduler_is_quoted() -> None:
    assert why_unschedulable([pod("a")]) == ""
    assert "Insufficient nvidia.com/gpu" in why_unschedulable([pod("a"), pod("b", "unschedulable")])
