"""One target of the controller: what it tells of its replicas, and how it sets them."""

from __future__ import annotations

import pytest

from shoal.autoscaler.kubernetes.api import connect
from shoal.autoscaler.kubernetes.resources import Reference, Resources, Unscalable
from shoal.autoscaler.kubernetes.scale_target import Listeners, Options, open_target
from shoal.clock import MonotonicClock
from shoal.errors import ScaleFailed

from .cluster.api import Api, at
from .cluster.eventually import eventually
from .cluster.fake_kubelet import FakeKubelet
from .cluster.scaled import replicas_of
from .cluster.targets import DECISION, Bench, until_target
from .cluster.workloads import create_deployment, create_lws, pod_names, roll_out
from .control_plane.launcher import ControlPlane


async def test_up_and_down_and_to_zero(
    api: Api, namespace: str, kubelet: FakeKubelet, bench: Bench
) -> None:
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m")
    async with bench.open() as target:
        await until_target(target, desired=0, ready=0)
        for replicas in (3, 1, 0, 2):
            await target.scale(replicas, DECISION)
            await until_target(target, desired=replicas, ready=replicas, pending=0, draining=0)
    assert bench.edits == []


async def test_what_loads_is_pending(
    api: Api, namespace: str, kubelet: FakeKubelet, bench: Bench
) -> None:
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m")
    kubelet.can_load.clear()
    async with bench.open() as target:
        await until_target(target, desired=0)
        await target.scale(2, DECISION)
        await until_target(target, desired=2, ready=0, pending=2, unschedulable=0)
        kubelet.can_load.set()
        await until_target(target, desired=2, ready=2, pending=0)


async def test_a_replica_without_a_gpu_is_unschedulable(
    api: Api, namespace: str, kubelet: FakeKubelet, bench: Bench
) -> None:
    node = await kubelet.add_node(2)
    await create_deployment(api, namespace, "m", replicas=1)
    async with bench.open() as target:
        await until_target(target, desired=1, ready=1)
        await target.scale(4, DECISION)
        await until_target(target, desired=4, ready=2, pending=2, unschedulable=2)
        assert "nvidia.com/gpu" in target.why_pending()
        await kubelet.set_gpus(node, 4)
        await until_target(target, desired=4, ready=4, unschedulable=0)
        assert target.why_pending() == ""


async def test_start_ups_are_measured(
    api: Api, namespace: str, kubelet: FakeKubelet, bench: Bench
) -> None:
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m", replicas=1)
    kubelet.load_s = 2.0
    async with bench.open() as target:
        seen: list[float] = []

        async def started() -> bool:
            found = await target.replicas()
            seen.extend(found.start_up_s if found else ())
            return found is not None and found.ready == 2

        await until_target(target, desired=1)
        await target.scale(2, DECISION)
        await eventually(started, "a second replica")
    # Times of the cluster are in whole seconds, and the first may have become ready before.
    assert len(seen) in (1, 2)
    assert all(seconds >= 1 for seconds in seen)


async def test_a_number_that_somebody_changed_meanwhile_is_not_overwritten(
    api: Api, namespace: str, kubelet: FakeKubelet, bench: Bench
) -> None:
    await create_deployment(api, namespace, "m", replicas=2)
    async with bench.open() as target:
        await until_target(target, desired=2)
        await api.scale(at("deployments", namespace, "m"), 6)
        with pytest.raises(ScaleFailed, match="6"):
            await target.scale(3, DECISION)
        assert await replicas_of(api, namespace) == 6
        await eventually(lambda: bench.edits, "word of the edit")
        assert (bench.edits[0].before, bench.edits[0].after) == (2, 6)
        await until_target(target, desired=6)
        await target.scale(3, DECISION)
        assert await replicas_of(api, namespace) == 3
    assert len(bench.edits) == 1


async def test_other_changes_of_the_target_are_no_conflict(
    api: Api, namespace: str, bench: Bench
) -> None:
    path = at("deployments", namespace, "m")
    await create_deployment(api, namespace, "m", replicas=2)
    async with bench.open() as target:
        await until_target(target, desired=2)
        await api.merge(path, {"metadata": {"annotations": {"note": "changed meanwhile"}}})
        await target.scale(3, DECISION)
        assert await replicas_of(api, namespace) == 3
    assert bench.edits == []


async def test_an_applied_manifest_is_told_with_its_manager(
    api: Api, namespace: str, bench: Bench
) -> None:
    """After a 0 that we wrote nobody owns replicas, so it comes without a conflict."""
    path = at("leaderworkersets", namespace, "m")
    await create_lws(api, namespace, "m", replicas=1)
    manifest = {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "m"},
        "spec": {"replicas": 7},
    }
    async with bench.open("LeaderWorkerSet") as target:
        await until_target(target, desired=1)
        await target.scale(0, DECISION)
        await api.apply(path, manifest, manager="gitops", force="true")
        await eventually(lambda: bench.edits, "word of the edit")
    (edit,) = bench.edits
    assert (edit.before, edit.after, edit.by) == (0, 7, "gitops")


async def test_a_surge_is_nobodys_order(
    api: Api, namespace: str, kubelet: FakeKubelet, bench: Bench
) -> None:
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m", replicas=2, surge=2)
    async with bench.open() as target:
        await until_target(target, desired=2, ready=2)
        kubelet.can_load.clear()
        await roll_out(api, namespace, "m", "shoal:new")

        async def surged() -> bool:
            return len(await pod_names(api, namespace)) == 4

        await eventually(surged, "two pods more")
        await until_target(target, desired=2, ready=2, pending=0)
        kubelet.can_load.set()

        async def rolled_out() -> bool:
            deployment = await api.get(at("deployments", namespace, "m"))
            return deployment["status"].get("updatedReplicas") == 2 and (
                deployment["status"]["replicas"] == 2
            )

        await eventually(rolled_out, "the end of the rollout")
        await until_target(target, desired=2, ready=2, pending=0, unschedulable=0)
    assert bench.edits == []


@pytest.mark.usefixtures("lws_controller")
async def test_a_replica_of_a_leader_worker_set_is_a_whole_group(
    api: Api, namespace: str, kubelet: FakeKubelet, bench: Bench
) -> None:
    await kubelet.add_node(3)
    await create_lws(api, namespace, "m", size=2)
    async with bench.open("LeaderWorkerSet") as target:
        await until_target(target, desired=0)
        await target.scale(2, DECISION)
        # Three GPUs: one group is whole, the other has a pod without a place.
        await until_target(target, desired=2, ready=1, pending=1, unschedulable=1)
        await kubelet.add_node(1)
        await until_target(target, desired=2, ready=2, pending=0)


@pytest.mark.usefixtures("lws_controller")
async def test_a_surge_of_groups_is_nobodys_order(
    api: Api, namespace: str, kubelet: FakeKubelet, bench: Bench
) -> None:
    await kubelet.add_node(8)
    await create_lws(api, namespace, "m", replicas=2, size=2, surge=1)
    path = at("leaderworkersets", namespace, "m")
    async with bench.open("LeaderWorkerSet") as target:
        await until_target(target, desired=2, ready=2)
        kubelet.can_load.clear()
        template = (await api.get(path))["spec"]["leaderWorkerTemplate"]
        template["workerTemplate"]["spec"]["containers"][0]["image"] = "shoal:new"
        await api.merge(path, {"spec": {"leaderWorkerTemplate": template}})

        async def surged() -> bool:
            return (await api.get(path))["status"]["replicas"] == 3

        await eventually(surged, "a third group")
        await until_target(target, desired=2, ready=2, pending=0)
        kubelet.can_load.set()

        async def rolled_out() -> bool:
            status = (await api.get(path))["status"]
            return (status["replicas"], status["updatedReplicas"]) == (2, 2)

        await eventually(rolled_out, "the end of the rollout")
        await until_target(target, desired=2, ready=2, pending=0)
    assert bench.edits == []


async def test_after_a_restart_of_the_server_it_sees_what_happens(
    control_plane: ControlPlane, api: Api, namespace: str, kubelet: FakeKubelet, bench: Bench
) -> None:
    """Its watches are cut and their versions are gone (410): it lists anew."""
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m", replicas=1)
    async with bench.open() as target:
        await until_target(target, desired=1, ready=1)
        control_plane.restart_apiserver()
        await api.scale(at("deployments", namespace, "m"), 2)
        await until_target(target, desired=2, ready=2)
        await target.scale(3, DECISION)
        await until_target(target, desired=3, ready=3)
    assert [(edit.before, edit.after) for edit in bench.edits] == [(1, 2)]


async def test_a_target_that_is_deleted_is_not_known_until_it_is_back(
    api: Api, namespace: str, kubelet: FakeKubelet, bench: Bench
) -> None:
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m", replicas=1)
    async with bench.open() as target:
        await until_target(target, desired=1, ready=1)
        await api.delete(at("deployments", namespace, "m"))

        async def unknown() -> bool:
            return await target.replicas() is None

        await eventually(unknown, "the target to be unknown")
        assert isinstance(target.problem, Unscalable)
        assert target.problem.reason == "TargetNotFound"
        with pytest.raises(ScaleFailed):
            await target.scale(3, DECISION)
        await create_deployment(api, namespace, "m", replicas=2)
        await until_target(target, desired=2, ready=2)


async def test_advice_writes_nothing(
    api: Api, namespace: str, kubelet: FakeKubelet, bench: Bench
) -> None:
    await create_deployment(api, namespace, "m", replicas=1)
    before = await api.get(at("deployments", namespace, "m"))
    async with bench.open(reads_only=True) as target:
        await until_target(target, desired=1)
        with pytest.raises(ScaleFailed):
            await target.scale(3, DECISION)
    after = await api.get(at("deployments", namespace, "m"))
    assert after["spec"] == before["spec"]


async def test_a_kind_that_is_not_there_is_named(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with connect(str(control_plane.kubeconfig)) as api:
        for api_version, kind, reason in (
            ("serving.example.com/v1", "Model", "NoSuchKind"),
            ("v1", "ConfigMap", "NoScale"),
            ("v1", "Node", "NotNamespaced"),
        ):
            with pytest.raises(Unscalable) as error:
                await open_target(
                    api, Resources(api), Reference(api_version, kind, namespace, "m"),
                    routers=None, options=Options(), listeners=Listeners(), clock=MonotonicClock(),
                )  # fmt: skip
            assert error.value.reason == reason
