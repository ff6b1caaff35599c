from __future__ import annotations

from itertools import chain

import pytest

from shoal.autoscaler.kubernetes.pods import PodState
from shoal.autoscaler.kubernetes.replicas_of_groups import groups_of, replicas_of_groups
from shoal.autoscaler.target import Replicas
from tests.autoscaler.kubernetes.objects import group_pods, pod


@pytest.mark.parametrize(
    ("states", "found"),
    [
        (["ready", "ready"], PodState.READY),
        (["ready"], PodState.PENDING),  # its worker is not created yet
        (["ready", "loading"], PodState.PENDING),
        (["ready", "unschedulable"], PodState.UNSCHEDULABLE),
        (["loading", "unschedulable"], PodState.UNSCHEDULABLE),
        (["ready", "terminating"], PodState.DRAINING),
        (["ready", "failed"], PodState.PENDING),
    ],
)
def test_the_state_of_a_group_is_that_of_its_worst_pod(states: list[str], found: PodState) -> None:
    [group] = groups_of(group_pods(0, states), 2).values()
    assert group.state is found


@pytest.mark.parametrize(
    ("groups", "wanted", "ready", "pending", "unschedulable", "draining"),
    [
        ([], 2, 0, 0, 0, 0),
        (["ready", "ready"], 2, 2, 0, 0, 0),
        (["ready", ["ready", "loading"]], 2, 1, 1, 0, 0),
        (["ready", ["loading", "unschedulable"]], 2, 1, 1, 1, 0),
        (["ready", "terminating"], 1, 1, 0, 0, 1),
        (["ready", "ready", "loading"], 2, 2, 0, 0, 0),  # maxSurge 1
    ],
)
def test_groups_as_replicas(
    groups: list[str | list[str]], wanted: int, ready: int, pending: int, unschedulable: int,
    draining: int,
) -> None:  # fmt: skip
    pods = chain(*(group_pods(index, states) for index, states in enumerate(groups)))
    assert replicas_of_groups(groups_of(pods, 2).values(), wanted) == Replicas(
        desired=wanted, ready=ready, pending=pending, unschedulable=unschedulable,
        draining=draining,
    )  # fmt: skip


def test_the_size_that_pods_carry_wins() -> None:
    pods = group_pods(0, ["ready", "ready"], size=4)
    assert groups_of(pods, 2)[0].state is PodState.PENDING
    for each in pods:
        each.metadata.annotations.clear()
    assert groups_of(pods, 2)[0].state is PodState.READY


def test_pods_of_nobody_are_left_out() -> None:
    assert groups_of([pod("stray")], 2) == {}


def test_a_group_starts_with_its_first_pod_and_is_ready_with_its_last() -> None:
    pods = group_pods(0, "ready", created=10.0, ready=50.0)
    pods[1].metadata.creation_timestamp = pods[0].metadata.creation_timestamp
    [group] = groups_of(pods, 2).values()
    assert group.created_at is not None
    assert group.ready_at is not None
    assert (group.ready_at - group.created_at).total_seconds() == 40.0
    assert group.leader is pods[0]


def test_groups_that_we_empty_are_draining() -> None:
    pods = [*group_pods(0, "ready"), *group_pods(1, "ready")]
    assert replicas_of_groups(groups_of(pods, 2).values(), 1, {1}) == Replicas(
        desired=1, ready=1, draining=1
    )
