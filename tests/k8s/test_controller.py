"""The autoscaler as a process, with the rights it is deployed with: from a load to pods."""

from __future__ import annotations

import asyncio

import pytest

from .cluster.api import Api, at
from .cluster.autoscalers import Autoscalers, events, until_condition, until_event
from .cluster.eventually import eventually
from .cluster.fake_kubelet import FakeKubelet
from .cluster.fake_router import FakeRouter
from .cluster.policies import create_policy, policy, variant
from .cluster.scaled import replicas_of, until_ready, until_replicas
from .cluster.workloads import (
    create_deployment,
    create_inference_service,
    create_lws,
    pod_names,
    roll_out,
)
from .control_plane.launcher import ControlPlane


async def test_from_zero_up_and_back_to_zero(
    api: Api, namespace: str, kubelet: FakeKubelet, router: FakeRouter, autoscalers: Autoscalers
) -> None:
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m")
    await create_policy(api, namespace, "m", router=router.url)
    autoscalers.start()
    await until_condition(api, namespace, "Ready", "True", "Deciding")
    assert await replicas_of(api, namespace) == 0
    router.hold(1)
    await until_ready(api, namespace, 1)
    router.set_rate(30)  # 2.6 replicas are busy with it
    replicas = await until_replicas(api, namespace, 3, 8)
    await until_ready(api, namespace, replicas)
    router.set_rate(0)
    await until_replicas(api, namespace, 0, 0)
    scaled = await events(api, namespace, "Scaled")
    assert scaled[0]["involvedObject"]["kind"] == "ScalingPolicy"
    assert any("-> 0 replicas" in event["message"] for event in scaled)


@pytest.mark.parametrize("autoscalers", ["everywhere"], indirect=True)
async def test_one_for_all_namespaces(
    api: Api, namespace: str, kubelet: FakeKubelet, router: FakeRouter, autoscalers: Autoscalers
) -> None:
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m")
    await create_policy(api, namespace, "m", router=router.url)
    autoscalers.start()
    router.set_rate(30)
    await until_replicas(api, namespace, 3, 8)
    await until_event(api, namespace, "Scaled")


@pytest.mark.usefixtures("lws_controller")
async def test_groups_of_a_leader_worker_set(
    api: Api, namespace: str, kubelet: FakeKubelet, router: FakeRouter, autoscalers: Autoscalers
) -> None:
    await kubelet.add_node(16)
    await create_lws(api, namespace, "m", size=2)
    variants = [variant(kind="LeaderWorkerSet", target="m", podsPerReplica=2)]
    await create_policy(api, namespace, "m", router=router.url, variants=variants)
    autoscalers.start()
    router.set_rate(30)
    groups = await until_replicas(api, namespace, 3, 8, plural="leaderworkersets")
    await until_ready(api, namespace, 2 * groups)
    router.set_rate(0)
    await until_replicas(api, namespace, 0, 0, plural="leaderworkersets")
    await until_ready(api, namespace, 0)
    # Each was emptied at the router before it went: its leader, which requests go to.
    assert {f"m-{index}" for index in range(groups)} <= set(router.drains)


@pytest.mark.usefixtures("kserve_controller")
async def test_an_inference_service_that_leaves_replicas_to_us(
    api: Api, namespace: str, kubelet: FakeKubelet, router: FakeRouter, autoscalers: Autoscalers
) -> None:
    await kubelet.add_node(8)
    await create_inference_service(api, namespace, "m")
    await until_ready(api, namespace, 1)
    variants = [variant(kind="InferenceService", target="m")]
    await create_policy(api, namespace, "m", router=router.url, variants=variants)
    autoscalers.start()
    router.set_rate(30)
    replicas = await until_replicas(api, namespace, 3, 8, "m-predictor")
    await until_ready(api, namespace, replicas)
    router.set_rate(0)
    await until_replicas(api, namespace, 0, 0, "m-predictor")


@pytest.mark.usefixtures("kserve_controller")
async def test_an_inference_service_with_another_scaler_is_left_alone(
    api: Api, namespace: str, kubelet: FakeKubelet, router: FakeRouter, autoscalers: Autoscalers
) -> None:
    await create_inference_service(api, namespace, "m")
    annotation = {"serving.kserve.io/autoscalerClass": "hpa"}
    path = at("inferenceservices", namespace, "m")
    await api.merge(path, {"metadata": {"annotations": annotation}})
    variants = [variant(kind="InferenceService", target="m")]
    await create_policy(api, namespace, "m", router=router.url, variants=variants)
    autoscalers.start()
    found = await until_condition(api, namespace, "Ready", "False", "NotExternal")
    assert "external" in found["message"]


async def test_advice_is_told_and_nothing_is_written(
    api: Api, namespace: str, kubelet: FakeKubelet, router: FakeRouter, autoscalers: Autoscalers
) -> None:
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m", replicas=1)
    await create_policy(api, namespace, "m", router=router.url, mode="advise")
    autoscalers.start()
    await until_ready(api, namespace, 1)
    before = await api.get(at("deployments", namespace, "m"))
    router.set_rate(30)
    advised = await until_event(api, namespace, "Advised")
    assert "would be right" in advised["message"]

    async def told() -> bool:
        status = (await api.get(at("scalingpolicies", namespace, "m")))["status"]
        return status["desired"] >= 3 and status["ready"] == 1

    await eventually(told, "the number that would be right in the status")
    after = await api.get(at("deployments", namespace, "m"))
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert await events(api, namespace, "Scaled") == []


async def test_an_edit_by_somebody_else_is_told_and_mended(
    api: Api, namespace: str, kubelet: FakeKubelet, router: FakeRouter, autoscalers: Autoscalers
) -> None:
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m", replicas=1)
    variants = [variant(target="m", min_replicas=1, max_replicas=2)]
    await create_policy(api, namespace, "m", router=router.url, variants=variants)
    autoscalers.start()
    await until_condition(api, namespace, "Ready", "True", "Deciding")
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "m"},
        "spec": {"replicas": 5},
    }
    path = at("deployments", namespace, "m")
    await api.apply(path, manifest, manager="gitops", force="true")
    told = await until_event(api, namespace, "ReplicasEdited")
    assert "'gitops' set replicas from 1 to 5" in told["message"]
    assert told["type"] == "Warning"
    await until_condition(api, namespace, "EditedByOthers", "True", "ReplicasEdited")
    await until_replicas(api, namespace, 1, 2)


async def test_a_target_that_changes_all_the_time_is_scaled_all_the_same(
    api: Api, namespace: str, kubelet: FakeKubelet, router: FakeRouter, autoscalers: Autoscalers
) -> None:
    """Somebody else's writes come between our reads and writes: 409, and we read again."""
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m", replicas=1)
    await create_policy(api, namespace, "m", router=router.url)
    autoscalers.start()
    await until_ready(api, namespace, 1)
    writes = 0

    async def write() -> None:
        nonlocal writes
        while True:
            writes += 1
            annotation = {"metadata": {"annotations": {"writes": str(writes)}}}
            await api.merge(at("deployments", namespace, "m"), annotation)

    writing = asyncio.create_task(write())
    try:
        router.set_rate(30)
        await until_replicas(api, namespace, 3, 8)
    finally:
        writing.cancel()
    assert writes > 10
    assert await events(api, namespace, "ReplicasEdited") == []


async def test_a_router_that_is_away_changes_nothing(
    api: Api, namespace: str, kubelet: FakeKubelet, autoscalers: Autoscalers
) -> None:
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m", replicas=1)
    router = FakeRouter(kubelet.pods)
    async with router.serve():
        await create_policy(api, namespace, "m", router=router.url)
        autoscaler = autoscalers.start()
        router.set_rate(30)
        replicas = await until_replicas(api, namespace, 3, 8)
        await until_ready(api, namespace, replicas)
        port = int(router.url.rsplit(":", 1)[1])
    await until_condition(api, namespace, "Ready", "False", "NoMetrics")
    replicas = await replicas_of(api, namespace)
    await autoscaler.decides(20)  # longer than it takes to scale to zero
    assert await replicas_of(api, namespace) == replicas
    router.set_rate(0)
    async with router.serve(port):
        await until_replicas(api, namespace, 0, 0)


async def test_another_variant_takes_over_when_gpus_run_out(
    api: Api, namespace: str, kubelet: FakeKubelet, router: FakeRouter, autoscalers: Autoscalers
) -> None:
    await kubelet.add_node(1, labels={"gpu": "cheap"})
    await kubelet.add_node(8, labels={"gpu": "dear"})
    for name in ("cheap", "dear"):
        await create_deployment(api, namespace, name, gpu=name)
    variants = [
        variant("cheap", costPerHour=1.0, endpointLabels={"app": "cheap"}),
        variant("dear", costPerHour=3.0, endpointLabels={"app": "dear"}),
    ]
    await create_policy(api, namespace, "m", router=router.url, variants=variants)
    autoscalers.start()
    router.set_rate(30)
    told = await until_event(api, namespace, "Unschedulable")
    assert "nvidia.com/gpu" in told["message"]
    await until_condition(api, namespace, "Unschedulable", "True", "NoPlace")
    dear = await until_replicas(api, namespace, 2, 8, "dear")
    await until_ready(api, namespace, 1 + dear)
    router.set_rate(0)
    for name in ("cheap", "dear"):
        await until_replicas(api, namespace, 0, 0, name)
    await until_condition(api, namespace, "Unschedulable", "False", "AllHaveAPlace")


async def test_what_has_no_place_does_not_hold_up_what_follows(
    api: Api, namespace: str, kubelet: FakeKubelet, router: FakeRouter, autoscalers: Autoscalers
) -> None:
    node = await kubelet.add_node(1)
    await create_deployment(api, namespace, "m")
    await create_policy(api, namespace, "m", router=router.url)
    autoscalers.start()
    router.set_rate(30)
    await until_replicas(api, namespace, 3, 8)
    await until_ready(api, namespace, 1)
    await until_condition(api, namespace, "Unschedulable", "True", "NoPlace")
    await kubelet.set_gpus(node, 8)
    await until_condition(api, namespace, "Unschedulable", "False", "AllHaveAPlace")
    router.set_rate(0)
    await until_replicas(api, namespace, 0, 0)


async def test_a_gpu_budget_holds(
    api: Api, namespace: str, kubelet: FakeKubelet, router: FakeRouter, autoscalers: Autoscalers
) -> None:
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m")
    await create_policy(api, namespace, "m", router=router.url, gpu_budget=2)
    autoscaler = autoscalers.start()
    router.set_rate(60)
    await until_replicas(api, namespace, 2, 2)
    await until_condition(api, namespace, "ScalingLimited", "True", "GpuBudget")
    await autoscaler.decides(5)
    assert await replicas_of(api, namespace) == 2


async def test_a_rollout_is_not_taken_for_demand(
    api: Api, namespace: str, kubelet: FakeKubelet, router: FakeRouter, autoscalers: Autoscalers
) -> None:
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m", replicas=2, surge=2)
    variants = [variant(target="m", min_replicas=2)]
    await create_policy(api, namespace, "m", router=router.url, variants=variants)
    autoscaler = autoscalers.start()
    await until_ready(api, namespace, 2)
    await until_condition(api, namespace, "Ready", "True", "Deciding")
    kubelet.can_load.clear()
    await roll_out(api, namespace, "m", "shoal:new")

    async def surged() -> bool:
        return len(await pod_names(api, namespace)) == 4

    await eventually(surged, "two pods more")
    await autoscaler.decides(10)
    assert await replicas_of(api, namespace) == 2
    kubelet.can_load.set()

    async def rolled_out() -> bool:
        pods = await api.items(at("pods", namespace))
        return [pod["spec"]["containers"][0]["image"] for pod in pods] == ["shoal:new"] * 2

    await eventually(rolled_out, "the end of the rollout")
    await autoscaler.decides(10)
    assert await replicas_of(api, namespace) == 2
    assert await events(api, namespace, "Scaled") == []


async def test_a_restart_of_the_api_server(
    control_plane: ControlPlane, api: Api, namespace: str, kubelet: FakeKubelet,
    router: FakeRouter, autoscalers: Autoscalers,
) -> None:  # fmt: skip
    """Watches are cut and their versions gone (410): policies, pods and targets are followed on."""
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m")
    await create_policy(api, namespace, "m", router=router.url)
    autoscaler = autoscalers.start()
    router.set_rate(5)
    await until_ready(api, namespace, 1)
    control_plane.restart_apiserver()
    router.set_rate(30)
    replicas = await until_replicas(api, namespace, 3, 8)
    await until_ready(api, namespace, replicas)
    # A policy that came after the restart is heard of.
    await create_deployment(api, namespace, "other")
    variants = [variant("other", min_replicas=1)]
    await create_policy(
        api, namespace, "other", router=router.url, variants=variants, model="other"
    )
    await until_replicas(api, namespace, 1, 1, "other")
    assert not autoscaler.program.has_ended


async def test_a_policy_that_is_deleted_leaves_its_target_as_it_is(
    api: Api, namespace: str, kubelet: FakeKubelet, router: FakeRouter, autoscalers: Autoscalers
) -> None:
    await kubelet.add_node(8)
    for name in ("m", "other"):
        await create_deployment(api, namespace, name)
    await create_policy(api, namespace, "m", router=router.url)
    other = [variant("other", max_replicas=1)]
    await create_policy(api, namespace, "other", router=router.url, variants=other, model="other")
    autoscaler = autoscalers.start()
    router.set_rate(30)
    await until_replicas(api, namespace, 3, 8)
    await api.delete(at("scalingpolicies", namespace, "m"))

    async def forgotten() -> bool:
        listed = await autoscaler.get("/autoscaler/models")
        return [model["model"] for model in listed["models"]] == ["other"]

    await eventually(forgotten, "the policy to be forgotten")
    left = await replicas_of(api, namespace)
    router.set_rate(0)
    await autoscaler.decides(20)
    assert await replicas_of(api, namespace) == left


async def test_a_target_that_comes_late_or_again(
    api: Api, namespace: str, kubelet: FakeKubelet, router: FakeRouter, autoscalers: Autoscalers
) -> None:
    await kubelet.add_node(8)
    await create_policy(api, namespace, "m", router=router.url)
    autoscalers.start()
    await until_condition(api, namespace, "Ready", "False", "TargetNotFound")
    await create_deployment(api, namespace, "m")
    await until_condition(api, namespace, "Ready", "True", "Deciding")
    await api.delete(at("deployments", namespace, "m"))
    await until_condition(api, namespace, "Ready", "False", "TargetNotFound")
    await create_deployment(api, namespace, "m")
    router.set_rate(30)
    await until_replicas(api, namespace, 3, 8)


async def test_a_wrong_policy_is_told_and_the_others_go_on(
    api: Api, namespace: str, kubelet: FakeKubelet, router: FakeRouter, autoscalers: Autoscalers
) -> None:
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m")
    wrong = [variant("other", min_replicas=3, max_replicas=2)]
    await create_policy(api, namespace, "wrong", router=router.url, variants=wrong)
    await create_policy(api, namespace, "m", router=router.url)
    autoscalers.start()
    found = await until_condition(api, namespace, "Ready", "False", "Invalid", "wrong")
    assert "minReplicas" in found["message"]
    router.set_rate(5)
    await until_replicas(api, namespace, 1, 8)
    # Mended, it is carried out.
    await create_deployment(api, namespace, "other")
    right = policy(
        "wrong", router=router.url, model="other", variants=[variant("other", min_replicas=1)]
    )
    await api.merge(at("scalingpolicies", namespace, "wrong"), {"spec": right["spec"]})
    await until_replicas(api, namespace, 1, 1, "other")


async def test_of_two_policies_for_one_target_the_older_has_it(
    api: Api, namespace: str, kubelet: FakeKubelet, router: FakeRouter, autoscalers: Autoscalers
) -> None:
    await create_deployment(api, namespace, "m")
    for name in ("a", "b"):
        await create_policy(api, namespace, name, router=router.url)
    autoscalers.start()
    await until_condition(api, namespace, "Ready", "True", "Deciding", "a")
    await until_condition(api, namespace, "Ready", "False", "TargetTaken", "b")
    await api.delete(at("scalingpolicies", namespace, "a"))
    await until_condition(api, namespace, "Ready", "True", "Deciding", "b")
