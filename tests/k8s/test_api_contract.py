"""What the controller relies on, asked of a real API server: conflicts, scale, watches, leases."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import pytest

from .cluster.api import Api, ApiError, Json, at
from .cluster.workloads import create_deployment, create_lws
from .control_plane.launcher import ControlPlane

KINDS = ("deployments", "leaderworkersets")


async def create(api: Api, namespace: str, plural: str, replicas: int) -> str:
    """The path of a new object named `m`."""
    make: Any = create_deployment if plural == "deployments" else create_lws
    await make(api, namespace, "m", replicas=replicas)
    return at(plural, namespace, "m")


@pytest.mark.parametrize("plural", KINDS)
async def test_scale_is_read_and_written(api: Api, namespace: str, plural: str) -> None:
    path = await create(api, namespace, plural, 2)
    scale = await api.get(f"{path}/scale")
    assert (scale["apiVersion"], scale["kind"]) == ("autoscaling/v1", "Scale")
    assert scale["spec"]["replicas"] == 2
    await api.scale(path, 5)
    assert (await api.get(path))["spec"]["replicas"] == 5


@pytest.mark.parametrize("plural", KINDS)
async def test_no_replicas_in_a_scale_means_zero(api: Api, namespace: str, plural: str) -> None:
    path = await create(api, namespace, plural, 2)
    written = await api.scale(path, 0)
    assert "replicas" not in written["spec"]
    assert "replicas" not in (await api.get(f"{path}/scale"))["spec"]
    assert (await api.get(path))["spec"]["replicas"] == 0


@pytest.mark.parametrize("plural", KINDS)
async def test_a_stale_resource_version_is_refused(api: Api, namespace: str, plural: str) -> None:
    path = await create(api, namespace, plural, 2)
    read = await api.get(f"{path}/scale")
    await api.scale(path, 5)
    for write in (
        api.replace(f"{path}/scale", {**read, "spec": {"replicas": 9}}),
        api.merge(
            f"{path}/scale",
            {
                "metadata": {"resourceVersion": read["metadata"]["resourceVersion"]},
                "spec": {"replicas": 9},
            },
        ),
    ):
        with pytest.raises(ApiError) as refused:
            await write
        assert (refused.value.code, refused.value.status["reason"]) == (409, "Conflict")
    assert (await api.get(path))["spec"]["replicas"] == 5


async def test_the_scale_of_an_lws_selects_leaders_alone(api: Api, namespace: str) -> None:
    path = await create(api, namespace, "leaderworkersets", 2)
    selector = "leaderworkerset.sigs.k8s.io/name=m,leaderworkerset.sigs.k8s.io/worker-index=0"
    status = {"status": {"replicas": 3, "hpaPodSelector": selector}}
    await api.merge(f"{path}/status", status)
    scale = await api.get(f"{path}/scale")
    assert scale["status"] == {"replicas": 3, "selector": selector}
    assert scale["spec"]["replicas"] == 2


async def test_a_dry_run_changes_nothing(api: Api, namespace: str) -> None:
    path = await create(api, namespace, "deployments", 2)
    body = {"spec": {"replicas": 7}}
    asked = await api.merge(f"{path}/scale", body, dryRun="All")
    assert asked["spec"]["replicas"] == 7
    assert (await api.get(path))["spec"]["replicas"] == 2


async def test_who_applies_a_field_owns_it(api: Api, namespace: str) -> None:
    path = await create(api, namespace, "leaderworkersets", 2)
    body = {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "m"},
        "spec": {"replicas": 7},
    }
    with pytest.raises(ApiError) as refused:
        await api.apply(path, body, manager="gitops")
    assert refused.value.code == 409
    await api.apply(path, body, manager="gitops", force="true")
    managers = {field["manager"] for field in (await api.get(path))["metadata"]["managedFields"]}
    assert "gitops" in managers


async def test_a_watch_tells_every_change(api: Api, namespace: str) -> None:
    path = await create(api, namespace, "leaderworkersets", 2)
    version = (await api.get(path))["metadata"]["resourceVersion"]
    collection = at("leaderworkersets", namespace)
    async with asyncio.timeout(20), api.watch(collection, version) as events:
        await api.scale(path, 0)
        await api.scale(path, 3)
        await api.delete(path)
        seen = []
        async for kind, lws in events:
            seen.append((kind, lws["spec"]["replicas"]))
            if kind == "DELETED":
                break
    assert seen == [("MODIFIED", 0), ("MODIFIED", 3), ("DELETED", 3)]


async def test_after_a_restart_an_old_version_is_gone(
    control_plane: ControlPlane, api: Api, namespace: str
) -> None:
    """The server's memory of changes begins with its start: this is how 410 comes to a watcher."""
    path = await create(api, namespace, "leaderworkersets", 2)
    version = (await api.get(path))["metadata"]["resourceVersion"]
    await api.scale(path, 3)
    control_plane.restart_apiserver()

    async def watch() -> None:
        async with api.watch(at("leaderworkersets", namespace), version) as events:
            async for _ in events:
                pass

    with pytest.raises(ApiError) as gone:
        await asyncio.wait_for(watch(), timeout=60)
    assert (gone.value.code, gone.value.status["reason"]) == (410, "Expired")
    listed = await api.get(at("leaderworkersets", namespace))
    assert [lws["spec"]["replicas"] for lws in listed["items"]] == [3]


def lease(holder: str, transitions: int = 0) -> Json:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "leader"},
        "spec": {
            "holderIdentity": holder, "leaseDurationSeconds": 15, "acquireTime": now,
            "renewTime": now, "leaseTransitions": transitions,
        },
    }  # fmt: skip


async def test_one_of_two_gets_a_new_lease(api: Api, namespace: str) -> None:
    answers = await asyncio.gather(
        *(api.create(at("leases", namespace), lease(holder)) for holder in "ab"),
        return_exceptions=True,
    )
    refused = [answer for answer in answers if isinstance(answer, ApiError)]
    assert [(error.code, error.status["reason"]) for error in refused] == [(409, "AlreadyExists")]


async def test_a_lease_that_was_renewed_meanwhile_cannot_be_stolen(
    api: Api, namespace: str
) -> None:
    path = at("leases", namespace, "leader")
    read = await api.create(at("leases", namespace), lease("a"))
    await api.replace(path, {**lease("a"), "metadata": read["metadata"]})
    with pytest.raises(ApiError) as refused:
        await api.replace(path, {**lease("b", 1), "metadata": read["metadata"]})
    assert refused.value.code == 409
    assert (await api.get(path))["spec"]["holderIdentity"] == "a"


async def test_microseconds_of_a_lease_are_kept(api: Api, namespace: str) -> None:
    written = lease("a")
    created = await api.create(at("leases", namespace), written)
    assert created["spec"]["renewTime"] == written["spec"]["renewTime"]


async def test_unknown_fields_are_dropped_and_bad_values_refused(api: Api, namespace: str) -> None:
    path = await create(api, namespace, "leaderworkersets", 1)
    kept = await api.merge(path, {"spec": {"misspelt": 1}})
    assert "misspelt" not in kept["spec"]
    with pytest.raises(ApiError) as refused:
        await api.merge(path, {"spec": {"startupPolicy": "Whenever"}})
    assert refused.value.code == 422
