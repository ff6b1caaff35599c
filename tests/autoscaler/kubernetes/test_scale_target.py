"""A target against the fake API server and a fake router."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shoal.autoscaler.collect.fetch import open_client
from shoal.autoscaler.core.decision import Decision
from shoal.autoscaler.kubernetes import emptying, way_down
from shoal.autoscaler.kubernetes.api import Api
from shoal.autoscaler.kubernetes.edits import Edit
from shoal.autoscaler.kubernetes.resources import Reference, Resources, Unscalable
from shoal.autoscaler.kubernetes.routers import Routers
from shoal.autoscaler.kubernetes.scale_target import (
    Listeners,
    Options,
    ScaleTarget,
    open_target,
)
from shoal.autoscaler.target import Replicas
from shoal.clock import VirtualClock
from shoal.errors import ScaleFailed
from tests.autoscaler.kubernetes.fake_api import FakeApi
from tests.autoscaler.kubernetes.fake_router import FakeRouter, fake_router
from tests.autoscaler.kubernetes.objects import group_pods, pod_object
from tests.autoscaler.kubernetes.waiting import running, until

DEPLOYMENTS = "apis/apps/v1/deployments"
GROUPS = "apis/leaderworkerset.x-k8s.io/v1/leaderworkersets"
PODS = "api/v1/pods"
LABELS = {"app": "llama"}
DECISION = Decision(desired={}, valid=True, reasons=(), explain={})


def deployment(replicas: int) -> dict[str, Any]:
    spec = {"replicas": replicas, "selector": {"matchLabels": LABELS}}
    return {"metadata": {"name": "llama"}, "spec": spec}


def reference(kind: str = "Deployment", api_version: str = "apps/v1") -> Reference:
    return Reference(api_version, kind, "llm", "llama")


class Bench:
    """One target with what it told."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.edits: list[Edit] = []
        self.num_troubles = 0

    @contextlib.asynccontextmanager
    async def open(
        self, api: Api, *, at: Reference | None = None, router: FakeRouter | None = None,
        options: Options | None = None,
    ) -> AsyncIterator[ScaleTarget]:  # fmt: skip
        async with contextlib.AsyncExitStack() as stack:
            routers = None
            if router is not None:
                client = await stack.enter_async_context(open_client())
                routers = Routers(client, [router.url], "key")
            target = await open_target(
                api, Resources(api), at or reference(), routers=routers,
                options=options or Options(), clock=self.clock,
                listeners=Listeners(on_edit=self.edits.append, on_trouble=self._trouble),
            )  # fmt: skip
            await stack.enter_async_context(running(target.run()))
            yield target

    def _trouble(self) -> None:
        self.num_troubles += 1


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
async def router(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeRouter]:
    monkeypatch.setattr(way_down, "POLL_S", 0.01)
    monkeypatch.setattr(way_down, "RETRY_S", 0.01)
    monkeypatch.setattr(emptying, "SETTLE_S", 0.0)
    async with fake_router() as router:
        yield router


async def known(target: ScaleTarget) -> Replicas:
    """As soon as its pods are listed."""
    found: list[Replicas] = []

    async def look() -> None:
        while (replicas := await target.replicas()) is None:
            await until(lambda: target._pods is not None and target._pods.age() is not None)
        found.append(replicas)

    await look()
    return found[0]


async def pods_of(server: FakeApi, *states: str) -> None:
    for index, state in enumerate(states):
        await server.put(PODS, pod_object(f"p{index}", state, labels=LABELS, created=float(index)))


def replicas_in(server: FakeApi, resource: str = DEPLOYMENTS) -> int:
    return int(server.get(resource, "llama")["spec"]["replicas"])


async def test_it_counts_and_scales(server: FakeApi, api: Api, bench: Bench) -> None:
    await server.put(DEPLOYMENTS, deployment(2))
    await pods_of(server, "ready", "unschedulable")
    await server.put(PODS, pod_object("another", labels={"app": "other"}))
    async with bench.open(api) as target:
        assert await known(target) == Replicas(desired=2, ready=1, pending=1, unschedulable=1)
        assert "Insufficient nvidia.com/gpu" in target.why_pending()
        await target.scale(5, DECISION)
        assert replicas_in(server) == 5
        assert (await known(target)).desired == 5
        await target.scale(0, DECISION)
        assert replicas_in(server) == 0
        assert (await known(target)).desired == 0
    assert bench.edits == []


async def test_a_scale_that_is_known_is_not_read_again(
    server: FakeApi, api: Api, bench: Bench
) -> None:
    await server.put(DEPLOYMENTS, deployment(2))
    async with bench.open(api) as target:
        await known(target)
        await until(lambda: target._object.is_open)
        await known(target)
        reads = server.num("GET", "/scale")
        for _ in range(5):
            await target.replicas()
        assert server.num("GET", "/scale") == reads


async def test_a_conflict_by_a_status_is_tried_again(
    server: FakeApi, api: Api, bench: Bench
) -> None:
    await server.put(DEPLOYMENTS, deployment(2))
    async with bench.open(api) as target:
        await known(target)
        server.answers["PUT", "/scale"] = [409]
        await target.scale(3, DECISION)
    assert replicas_in(server) == 3
    assert server.num("PUT", "/scale") == 2


async def test_what_somebody_else_set_is_never_overwritten_blindly(
    server: FakeApi, api: Api, bench: Bench
) -> None:
    await server.put(DEPLOYMENTS, deployment(2))
    async with bench.open(api) as target:
        await known(target)
        edited = deployment(7)
        fields = {"f:spec": {"f:replicas": {}}}
        edited["metadata"]["managedFields"] = [
            {"manager": "argocd", "time": "2026-01-01T00:00:00Z", "fieldsV1": fields}
        ]
        await server.put(DEPLOYMENTS, edited)
        with pytest.raises(ScaleFailed, match="deciding again"):
            await target.scale(3, DECISION)
        assert replicas_in(server) == 7
        await until(lambda: bench.edits == [Edit(2, 7, "argocd")])
        # The next decision knows.
        assert (await known(target)).desired == 7
        await target.scale(3, DECISION)
        assert replicas_in(server) == 3


async def test_an_edit_is_told_when_it_happens(server: FakeApi, api: Api, bench: Bench) -> None:
    await server.put(DEPLOYMENTS, deployment(2))
    async with bench.open(api) as target:
        await known(target)
        await target.scale(0, DECISION)
        await until(lambda: target._object.is_open)
        await server.put(DEPLOYMENTS, deployment(7))  # a GitOps tool undoes the scaling to zero
        await until(lambda: bench.edits)
    assert bench.edits == [Edit(0, 7)]


async def test_trouble_is_not_known_and_not_zero(server: FakeApi, api: Api, bench: Bench) -> None:
    await server.put(DEPLOYMENTS, deployment(2))
    await pods_of(server, "ready", "ready")
    async with bench.open(api) as target:
        await known(target)
        server.is_down = True
        server.cut()
        await until(lambda: target._object.problem is not None)
        assert await target.replicas() is None
        assert target.problem is not None
        with pytest.raises(ScaleFailed):
            await target.scale(5, DECISION)
        server.is_down = False
        await until(lambda: target._object.is_open and target._pods.is_open)  # type: ignore[union-attr]
        assert await target.replicas() == Replicas(desired=2, ready=2)


async def test_pods_that_nobody_confirms_are_not_known(
    server: FakeApi, api: Api, bench: Bench
) -> None:
    await server.put(DEPLOYMENTS, deployment(1))
    await pods_of(server, "ready")
    async with bench.open(api) as target:
        await known(target)
        server.answers["WATCH", "/pods"] = [500] * 1000
        server.answers["GET", "/pods"] = [500] * 1000
        server.cut()
        assert target._pods is not None
        await until(lambda: target._pods is not None and target._pods.problem is not None)
        bench.clock.advance(59.0)
        assert await target.replicas() is not None
        bench.clock.advance(2.0)
        assert await target.replicas() is None


async def test_a_target_that_goes_is_told(server: FakeApi, api: Api, bench: Bench) -> None:
    with pytest.raises(Unscalable, match="Deployment llm/llama is not there"):
        async with bench.open(api):
            pass
    await server.put(DEPLOYMENTS, deployment(1))
    async with bench.open(api) as target:
        await known(target)
        await server.delete(DEPLOYMENTS, "llama")
        await until(lambda: not target._object.objects)
        assert await target.replicas() is None
        assert isinstance(target.problem, Unscalable)
        await server.put(DEPLOYMENTS, deployment(4))  # made anew, which is nobody's edit
        assert (await known(target)).desired == 4
        await target.scale(5, DECISION)
        assert replicas_in(server) == 5
        await server.delete(DEPLOYMENTS, "llama")
        other = deployment(1)
        other["spec"]["selector"]["matchLabels"] = {"app": "other"}
        await server.put(DEPLOYMENTS, other)
        assert await target.replicas() is None
        assert target.is_replaced
    assert bench.edits == []


async def test_who_only_advises_writes_nothing(
    server: FakeApi, api: Api, bench: Bench, router: FakeRouter
) -> None:
    await server.put(DEPLOYMENTS, deployment(1))
    async with bench.open(api, router=router, options=Options(reads_only=True)) as target:
        await known(target)
        with pytest.raises(ScaleFailed, match="advisory"):
            await target.scale(0, DECISION)
        await server.put(DEPLOYMENTS, deployment(3))  # by whoever does scale it: no edit
        await until(lambda: target.present == 3)
    assert bench.edits == []
    assert not [method for method, _ in server.requests if method not in ("GET", "WATCH")]


async def test_who_no_longer_leads_writes_nothing(server: FakeApi, api: Api, bench: Bench) -> None:
    await server.put(DEPLOYMENTS, deployment(1))
    async with bench.open(api) as target:
        await known(target)
        api.may_write = lambda: False
        with pytest.raises(ScaleFailed, match="another replica may lead"):
            await target.scale(2, DECISION)
    assert server.num("PUT", "") == 0


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
