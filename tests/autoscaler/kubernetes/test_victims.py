from __future__ import annotations

import pytest

from shoal.autoscaler.kubernetes import victims
from shoal.autoscaler.kubernetes.replicas_of_groups import groups_of
from tests.autoscaler.kubernetes.objects import group_pods, pod


@pytest.mark.parametrize(
    ("states", "present", "keep", "names"),
    [
        ("rrr", 3, 2, "b"),  # the emptiest
        ("rrr", 3, 1, "bc"),
        ("rrr", 3, 0, "bca"),
        ("rrr", 3, 3, ""),
        ("rrl", 3, 2, ""),  # the one that loads is deleted first
        ("rrl", 3, 1, "b"),
        ("rrt", 2, 1, "b"),  # what goes already is no victim
        ("rrrl", 3, 2, "b"),  # a rollout's surge is not ours to count
    ],
)
def test_the_emptiest_ready_pods_of_a_deployment(
    states: str, present: int, keep: int, names: str
) -> None:
    words = {"r": "ready", "l": "loading", "t": "terminating"}
    pods = [pod("abcd"[i], words[s], created=float(i)) for i, s in enumerate(states)]
    found = victims.of_deployment(pods, present, keep, {"a": 5, "b": 1, "c": 3}, set())
    assert "".join(each.name for each in found) == names


def test_those_that_are_being_emptied_stay_chosen() -> None:
    pods = [pod("a"), pod("b"), pod("c")]
    found = victims.of_deployment(pods, 3, 2, {"a": 0, "b": 2, "c": 9}, {"c"})
    assert [each.name for each in found] == ["c"]


def test_of_equals_the_youngest() -> None:
    pods = [pod("a", created=5.0), pod("b", created=9.0), pod("c", created=1.0)]
    assert [p.name for p in victims.of_deployment(pods, 3, 1, {}, set())] == ["b", "a"]


def test_the_highest_ordinals_of_a_stateful_set() -> None:
    pods = [pod(f"db-{i}", "loading" if i == 3 else "ready") for i in (0, 1, 2, 3, 10)]
    assert [p.name for p in victims.of_stateful_set(pods, 2)] == ["db-2", "db-10"]


def test_the_highest_groups_from_the_top() -> None:
    pods = [p for i in range(4) for p in group_pods(i, "loading" if i == 2 else "ready")]
    assert [g.index for g in victims.of_groups(groups_of(pods, 2).values(), 1)] == [3, 1]
