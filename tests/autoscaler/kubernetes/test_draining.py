"""Who is drained before replicas are lowered, and who is taken back into use."""

from __future__ import annotations

import pytest

from shoal.autoscaler.kubernetes.api import Api
from shoal.autoscaler.kubernetes.edits import Edit
from shoal.autoscaler.kubernetes.scale_target import (
    Options,
)
from shoal.autoscaler.target import Replicas
from tests.autoscaler.kubernetes.bench import (
    DECISION,
    DEPLOYMENTS,
    GROUPS,
    LABELS,
    PODS,
    Bench,
    deployment,
    known,
    pods_of,
    reference,
    replicas_in,
)
from tests.autoscaler.kubernetes.fake_api import FakeApi
from tests.autoscaler.kubernetes.fake_router import FakeRouter
from tests.autoscaler.kubernetes.objects import group_pods, pod_object
from tests.autoscaler.kubernetes.waiting import until


async def test_the_emptiest_pods_are_drained_before_replicas_are_lowered(
    server: FakeApi, api: Api, bench: Bench, router: FakeRouter
) -> None:
    await server.put(DEPLOYMENTS, deployment(3))
    await pods_of(server, "ready", "ready", "ready")
    router.in_flight = {"p0": 5, "p1": 2, "p2": 9}
    async with bench.open(api, router=router) as target:
        await known(target)
        await target.scale(2, DECISION)
        await until(lambda: router.drained == {"p1"})
        assert replicas_in(server) == 3
        # No longer wanted, and no longer counted as ready.
        assert await target.replicas() == Replicas(desired=2, ready=2, draining=1)
        marks = server.get(PODS, "p1")["metadata"]["annotations"]
        assert marks["controller.kubernetes.io/pod-deletion-cost"] == "-1000000"
        router.in_flight["p1"] = 0
        await until(lambda: replicas_in(server) == 2)
        assert router.drained == {"p1"}  # until it is gone
    assert router.authorizations == {"Bearer key"}


async def test_a_pod_that_its_controller_spares_is_taken_back(
    server: FakeApi, api: Api, bench: Bench, router: FakeRouter
) -> None:
    """It has deleted another in its place; who stayed drained would serve nobody."""
    await server.put(DEPLOYMENTS, deployment(2))
    await pods_of(server, "ready", "ready")
    router.in_flight = {"p0": 0, "p1": 3}
    async with bench.open(api, router=router) as target:
        await known(target)
        await target.scale(1, DECISION)
        await until(lambda: replicas_in(server) == 1)
        assert router.drained == {"p0"}
        await server.delete(PODS, "p1")
        await until(lambda: not router.drained)
        assert await target.replicas() == Replicas(desired=1, ready=1)


async def test_a_pod_that_does_not_empty_is_given_up_in_time(
    server: FakeApi, api: Api, bench: Bench, router: FakeRouter
) -> None:
    await server.put(DEPLOYMENTS, deployment(1))
    await pods_of(server, "ready")
    router.in_flight = {"p0": 1}
    async with bench.open(api, router=router) as target:
        await known(target)
        await target.scale(0, DECISION)
        await until(lambda: router.drained)
        bench.clock.advance(119.0)
        assert replicas_in(server) == 1
        bench.clock.advance(2.0)
        await until(lambda: replicas_in(server) == 0)


async def test_pods_that_are_wanted_again_are_taken_back_into_use(
    server: FakeApi, api: Api, bench: Bench, router: FakeRouter
) -> None:
    await server.put(DEPLOYMENTS, deployment(2))
    await pods_of(server, "ready", "ready")
    router.in_flight = {"p0": 1, "p1": 1}
    async with bench.open(api, router=router) as target:
        await known(target)
        await target.scale(0, DECISION)
        await until(lambda: router.drained == {"p0", "p1"})
        await target.replicas()
        await target.scale(1, DECISION)  # one of them after all
        await until(lambda: len(router.drained) == 1)
        await target.scale(2, DECISION)
        await until(lambda: not router.drained)
        assert await target.replicas() == Replicas(desired=2, ready=2)
        for name in ("p0", "p1"):
            await until(lambda name=name: not server.get(PODS, name)["metadata"]["annotations"])
    assert replicas_in(server) == 2
    assert server.num("PUT", "/scale") == 0


async def test_what_a_leader_before_us_was_emptying_is_taken_back(
    server: FakeApi, api: Api, bench: Bench, router: FakeRouter
) -> None:
    await server.put(DEPLOYMENTS, deployment(1))
    marks = {
        "autoscaling.shoal.dev/draining": "7",
        "controller.kubernetes.io/pod-deletion-cost": "-1000000",
    }
    await server.put(PODS, pod_object("p0", labels=LABELS, annotations=marks))
    router.in_flight, router.drained = {"p0": 1, "mine": 0}, {"p0", "mine"}
    async with bench.open(api, router=router):
        await until(lambda: router.undrained == ["p0"])
        assert router.drained == {"mine"}  # by an operator
        left = {"controller.kubernetes.io/pod-deletion-cost": "7"}
        await until(lambda: server.get(PODS, "p0")["metadata"]["annotations"] == left)


@pytest.mark.parametrize("leads", [True, False])
async def test_who_stops_in_the_middle_takes_pods_back_unless_deposed(
    server: FakeApi, api: Api, bench: Bench, router: FakeRouter, leads: bool
) -> None:
    await server.put(DEPLOYMENTS, deployment(1))
    await pods_of(server, "ready")
    router.in_flight = {"p0": 1}
    async with bench.open(api, router=router) as target:
        await known(target)
        await target.scale(0, DECISION)
        await until(lambda: router.drained == {"p0"})
        assert target._pods is not None
        pod = target._pods.objects
        await until(lambda: pod["llm", "p0"].metadata.annotations)
        api.may_write = lambda: leads
    assert router.drained == (set() if leads else {"p0"})
    assert bool(server.get(PODS, "p0")["metadata"]["annotations"]) is not leads
    assert replicas_in(server) == 1


async def test_a_router_that_does_not_answer_costs_the_time_of_the_drain(
    server: FakeApi, api: Api, bench: Bench, router: FakeRouter
) -> None:
    await server.put(DEPLOYMENTS, deployment(1))
    await pods_of(server, "ready")
    router.in_flight, router.is_down = {"p0": 0}, True
    async with bench.open(api, router=router) as target:
        await known(target)
        await target.scale(0, DECISION)
        await until(lambda: "p0" in (target._way_down.given_up() if target._way_down else ()))
        assert replicas_in(server) == 1
        bench.clock.advance(121.0)
        await until(lambda: replicas_in(server) == 0)


async def test_a_decision_that_comes_while_replicas_are_lowered_has_the_last_word(
    server: FakeApi, api: Api, bench: Bench, router: FakeRouter
) -> None:
    """The pods are empty and their replicas about to go, and then they are wanted after all."""
    await server.put(DEPLOYMENTS, deployment(2))
    await pods_of(server, "ready", "ready")
    router.in_flight = {"p0": 0, "p1": 1}
    async with bench.open(api, router=router) as target:
        await known(target)
        async with target._lock:  # a read or a write is under way
            assert target._way_down is not None
            target._way_down.start(1)
            await until(lambda: target._lock._waiters)  # p0 is empty: it is to be lowered
            target._way_down.stop()
        await until(lambda: router.undrained == ["p0"])
        assert replicas_in(server) == 2
    assert server.num("PUT", "/scale") == 0


async def test_pods_that_cannot_be_marked_are_taken_back_too(
    server: FakeApi, api: Api, bench: Bench, router: FakeRouter
) -> None:
    """Without the right to patch pods."""
    await server.put(DEPLOYMENTS, deployment(1))
    await pods_of(server, "ready")
    server.answers["PATCH", "/p0"] = [403] * 1000
    router.in_flight = {"p0": 1}
    async with bench.open(api, router=router) as target:
        await known(target)
        await target.scale(0, DECISION)
        await until(lambda: router.drained == {"p0"})
        await target.scale(1, DECISION)
        await until(lambda: not router.drained)


async def test_a_mark_stays_until_the_router_has_taken_the_pod_back(
    server: FakeApi, api: Api, bench: Bench, router: FakeRouter
) -> None:
    await server.put(DEPLOYMENTS, deployment(1))
    await pods_of(server, "ready")
    router.in_flight = {"p0": 1}
    async with bench.open(api, router=router) as target:
        await known(target)
        await target.scale(0, DECISION)
        await until(lambda: router.drained == {"p0"})
        assert target._pods is not None
        pods = target._pods.objects
        await until(lambda: pods["llm", "p0"].metadata.annotations)
        router.is_down = True
        await target.replicas()
        await target.scale(1, DECISION)
        looks = router.num_looks
        await until(lambda: router.num_looks > looks + 2)
        assert server.get(PODS, "p0")["metadata"]["annotations"]
        router.is_down = False
        await until(lambda: not router.drained)
        await until(lambda: not server.get(PODS, "p0")["metadata"]["annotations"])


async def test_an_edit_ends_the_way_down(
    server: FakeApi, api: Api, bench: Bench, router: FakeRouter
) -> None:
    await server.put(DEPLOYMENTS, deployment(2))
    await pods_of(server, "ready", "ready")
    router.in_flight = {"p0": 1, "p1": 1}
    async with bench.open(api, router=router) as target:
        await known(target)
        await target.scale(1, DECISION)
        await until(lambda: router.drained)
        await server.put(DEPLOYMENTS, deployment(4))
        await until(lambda: not router.drained)
        assert (await known(target)).desired == 4
    assert bench.edits == [Edit(2, 4)]


async def test_groups_are_drained_from_the_top(
    server: FakeApi, api: Api, bench: Bench, router: FakeRouter
) -> None:
    await server.put(GROUPS, {"metadata": {"name": "llama"}, "spec": {"replicas": 3}})
    for index in range(3):
        for pod in group_pods(index, "ready"):
            made = pod_object(pod.name, labels=pod.metadata.labels, owner="StatefulSet")
            await server.put(PODS, made)
    router.in_flight = {"llama-0": 0, "llama-1": 3, "llama-2": 1}
    at = reference("LeaderWorkerSet", "leaderworkerset.x-k8s.io/v1")
    options = Options(pods_per_replica=2)
    async with bench.open(api, at=at, router=router, options=options) as target:
        assert await known(target) == Replicas(desired=3, ready=3)
        await target.scale(1, DECISION)
        await until(lambda: router.drained == {"llama-1", "llama-2"})
        assert await target.replicas() == Replicas(desired=1, ready=1, draining=2)
        router.in_flight = dict.fromkeys(router.in_flight, 0)
        await until(lambda: replicas_in(server, GROUPS) == 1)
