"""A target against the fake API server and a fake router."""

from __future__ import annotations

import pytest

from shoal.autoscaler.kubernetes.api import Api
from shoal.autoscaler.kubernetes.edits import Edit
from shoal.autoscaler.kubernetes.resources import Unscalable
from shoal.autoscaler.kubernetes.scale_target import (
    Options,
)
from shoal.autoscaler.target import Replicas
from shoal.errors import ScaleFailed
from tests.autoscaler.kubernetes.bench import (
    DECISION,
    DEPLOYMENTS,
    PODS,
    Bench,
    deployment,
    known,
    pods_of,
    replicas_in,
)
from tests.autoscaler.kubernetes.fake_api import FakeApi
from tests.autoscaler.kubernetes.fake_router import FakeRouter
from tests.autoscaler.kubernetes.objects import pod_object
from tests.autoscaler.kubernetes.waiting import until


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
