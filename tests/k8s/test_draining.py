"""The way down of one target: pods are emptied at the router, and replicas lowered afterwards."""

from __future__ import annotations

import pytest

from shoal.autoscaler.kubernetes.pods import DRAINING_ANNOTATION

from .cluster.api import Api, at
from .cluster.eventually import eventually
from .cluster.fake_kubelet import FakeKubelet, timestamp
from .cluster.fake_router import FakeRouter
from .cluster.scaled import replicas_of, until_ready
from .cluster.targets import DECISION, Bench, until_target
from .cluster.workloads import create_deployment, create_lws, create_stateful_set, pod_names


@pytest.mark.usefixtures("lws_controller")
async def test_a_leader_worker_set_is_emptied_from_the_highest_group_on(
    api: Api, namespace: str, kubelet: FakeKubelet, bench: Bench
) -> None:
    await kubelet.add_node(8)
    await create_lws(api, namespace, "m", replicas=3, size=2)
    router = FakeRouter(kubelet.pods)
    router.in_flight_of = {"m-0": 0, "m-1": 1, "m-2": 5}
    async with router.serve(), bench.open("LeaderWorkerSet", router=router) as target:
        await until_target(target, desired=3, ready=3)
        await target.scale(1, DECISION)
        await eventually(lambda: len(router.drains) >= 2, "two drains")
        assert set(router.drains) == {"m-1", "m-2"}  # not m-0, which has nothing to do
        assert await replicas_of(api, namespace, plural="leaderworkersets") == 3
        await until_target(target, desired=1, ready=1, draining=2)
        router.in_flight_of.clear()
        await until_target(target, desired=1, ready=1, draining=0)
        assert await replicas_of(api, namespace, plural="leaderworkersets") == 1

        async def only_the_first() -> bool:
            return await pod_names(api, namespace) == ["m-0", "m-0-1"]

        await eventually(only_the_first, "the higher groups to go")


async def test_a_stateful_set_is_emptied_from_the_highest_ordinal_on(
    api: Api, namespace: str, kubelet: FakeKubelet, bench: Bench
) -> None:
    await kubelet.add_node(8)
    await create_stateful_set(api, namespace, "m", replicas=3)
    router = FakeRouter(kubelet.pods)
    router.in_flight_of = {"m-0": 0, "m-1": 0, "m-2": 4}
    async with router.serve(), bench.open("StatefulSet", router=router) as target:
        await until_target(target, desired=3, ready=3)
        await target.scale(2, DECISION)
        await eventually(lambda: router.drains, "a drain")
        assert set(router.drains) == {"m-2"}  # not the idle ones: it is this that goes
        await until_target(target, desired=2, ready=2, draining=1)
        router.in_flight_of.clear()
        await until_target(target, desired=2, ready=2, draining=0)

        async def gone() -> bool:
            return await pod_names(api, namespace) == ["m-0", "m-1"]

        await eventually(gone, "the last pod to go")


async def create_old_and_young(api: Api, namespace: str) -> tuple[str, str]:
    """A Deployment of two Ready pods; the younger is the one that a ReplicaSet deletes first."""
    await create_deployment(api, namespace, "m", replicas=1)
    await until_ready(api, namespace, 1)
    (old,) = await pod_names(api, namespace)
    created = (await api.get(at("pods", namespace, old)))["metadata"]["creationTimestamp"]
    await eventually(lambda: timestamp() > created, "the next second")  # ages are in seconds
    await api.scale(at("deployments", namespace, "m"), 2)
    await until_ready(api, namespace, 2)
    (young,) = set(await pod_names(api, namespace)) - {old}
    return old, young


async def test_replicas_are_lowered_when_the_pod_has_nothing_left_to_do(
    api: Api, namespace: str, kubelet: FakeKubelet, bench: Bench
) -> None:
    await kubelet.add_node(8)
    old, young = await create_old_and_young(api, namespace)
    router = FakeRouter(kubelet.pods)
    router.in_flight_of = {old: 3, young: 3}
    async with router.serve(), bench.open(router=router) as target:
        await until_target(target, desired=2, ready=2)
        await target.scale(1, DECISION)
        await eventually(lambda: router.drained == {young}, "a drain of the younger")
        await until_target(target, desired=1, ready=1, draining=1)
        assert await replicas_of(api, namespace) == 2
        pod = await api.get(at("pods", namespace, young))
        assert DRAINING_ANNOTATION in pod["metadata"]["annotations"]
        router.in_flight_of[young] = 0
        await until_target(target, desired=1, ready=1, draining=0)
        assert await replicas_of(api, namespace) == 1
        assert await pod_names(api, namespace) == [old]


async def test_a_pod_that_its_controller_spares_is_taken_back(
    api: Api, namespace: str, kubelet: FakeKubelet, bench: Bench
) -> None:
    """The idlest is emptied, and this Kubernetes, which knows no deletion cost, deletes the
    youngest: nobody would serve if the other stayed drained."""
    await kubelet.add_node(8)
    old, young = await create_old_and_young(api, namespace)
    router = FakeRouter(kubelet.pods)
    router.in_flight_of = {old: 0, young: 3}
    async with router.serve(), bench.open(router=router) as target:
        await until_target(target, desired=2, ready=2)
        await target.scale(1, DECISION)
        await eventually(lambda: router.drains == [old], "a drain of the idle one")
        await until_target(target, desired=1, ready=1, draining=0)
        await eventually(lambda: not router.drained, "it to be taken back")
        assert await pod_names(api, namespace) == [old]


async def test_a_pod_that_is_wanted_again_is_taken_back(
    api: Api, namespace: str, kubelet: FakeKubelet, bench: Bench
) -> None:
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m", replicas=2)
    router = FakeRouter(kubelet.pods)
    async with router.serve(), bench.open(router=router) as target:
        await until_target(target, desired=2, ready=2)
        router.in_flight_of = dict.fromkeys(await pod_names(api, namespace), 3)
        await target.scale(1, DECISION)
        await eventually(lambda: router.drains, "a drain")
        await until_target(target, desired=1, draining=1)
        await target.scale(2, DECISION)
        await until_target(target, desired=2, ready=2, draining=0)
        await eventually(lambda: not router.drained, "the pod to be taken back")

        async def unmarked() -> bool:
            pods = await api.items(at("pods", namespace))
            marks = [pod["metadata"].get("annotations", {}) for pod in pods]
            return not any(DRAINING_ANNOTATION in each for each in marks)

        await eventually(unmarked, "the mark to go")
        assert await replicas_of(api, namespace) == 2


async def test_somebody_who_sets_replicas_ends_a_drain(
    api: Api, namespace: str, kubelet: FakeKubelet, bench: Bench
) -> None:
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m", replicas=2)
    router = FakeRouter(kubelet.pods)
    async with router.serve(), bench.open(router=router) as target:
        await until_target(target, desired=2, ready=2)
        router.in_flight_of = dict.fromkeys(await pod_names(api, namespace), 3)
        await target.scale(1, DECISION)
        await eventually(lambda: router.drains, "a drain")
        await api.scale(at("deployments", namespace, "m"), 3)
        await eventually(lambda: bench.edits, "word of the edit")
        await until_target(target, desired=3, ready=3, draining=0)
        await eventually(lambda: not router.drained, "the pod to be taken back")
        assert await replicas_of(api, namespace) == 3


async def test_who_ends_in_the_middle_of_a_drain_takes_the_pods_back(
    api: Api, namespace: str, kubelet: FakeKubelet, bench: Bench
) -> None:
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m", replicas=2)
    router = FakeRouter(kubelet.pods)
    async with router.serve():
        async with bench.open(router=router) as target:
            await until_target(target, desired=2, ready=2)
            router.in_flight_of = dict.fromkeys(await pod_names(api, namespace), 3)
            await target.scale(1, DECISION)
            await eventually(lambda: router.drains, "a drain")
        assert router.drained == set()
    assert await replicas_of(api, namespace) == 2


async def test_a_drain_whose_leader_was_killed_is_undone_by_the_next(
    api: Api, namespace: str, kubelet: FakeKubelet, bench: Bench
) -> None:
    """It left the mark on the pod, which tells that the drain at the router was no operator's."""
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m", replicas=3)
    router = FakeRouter(kubelet.pods)
    async with router.serve():
        async with bench.open() as target:
            await until_target(target, desired=3, ready=3)
        left, operators, _ = await pod_names(api, namespace)
        mark = {"metadata": {"annotations": {DRAINING_ANNOTATION: ""}}}
        await api.merge(at("pods", namespace, left), mark)
        for name in (left, operators):
            router.drain(name)
        async with bench.open(router=router) as target:
            await until_target(target, desired=3, ready=3, draining=0)
            await eventually(lambda: router.drained == {operators}, "one to be taken back")
