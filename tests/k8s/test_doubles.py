"""The doubles do as the real parts do, where a scaler can see it."""

from __future__ import annotations

import asyncio

import pytest

from .cluster.api import Api, at
from .cluster.eventually import eventually
from .cluster.fake_kubelet import FakeKubelet
from .cluster.lws_controller import GROUP, WORKER
from .cluster.scaled import until_ready
from .cluster.workloads import (
    create_deployment,
    create_inference_service,
    create_lws,
    pod_names,
    roll_out,
)


async def ready(api: Api, namespace: str, *names: str) -> None:
    """Waits until exactly these pods are Ready, and no others are there."""

    async def look() -> bool:
        pods = await pod_names(api, namespace)
        return pods == sorted(names) == await pod_names(api, namespace, ready=True)

    await eventually(look, f"pods {names}")


async def test_a_deployment_gets_ready_pods_and_loses_them(
    api: Api, namespace: str, kubelet: FakeKubelet
) -> None:
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m", replicas=3)
    await until_ready(api, namespace, 3)
    await api.scale(at("deployments", namespace, "m"), 1)

    async def all_gone() -> bool:
        return len(await api.items(at("pods", namespace))) == 1

    await eventually(all_gone, "two pods to end")


async def test_a_pod_without_a_gpu_stays_pending_until_there_is_one(
    api: Api, namespace: str, kubelet: FakeKubelet
) -> None:
    node = await kubelet.add_node(1)
    await create_deployment(api, namespace, "m", replicas=2)
    await until_ready(api, namespace, 1)

    async def unschedulable() -> bool:
        (name,) = await pod_names(api, namespace, ready=False)
        pod = await api.get(at("pods", namespace, name))
        (condition,) = pod["status"].get("conditions", [{}])
        return condition.get("reason") == "Unschedulable" and "gpu" in condition["message"]

    await eventually(unschedulable, "the scheduler to say that there is no place")
    await kubelet.set_gpus(node, 2)
    await until_ready(api, namespace, 2)


async def test_nothing_is_ready_while_models_load(
    api: Api, namespace: str, kubelet: FakeKubelet
) -> None:
    await kubelet.add_node(8)
    kubelet.can_load.clear()
    await create_deployment(api, namespace, "m", replicas=1)

    async def bound() -> bool:
        pods = await api.items(at("pods", namespace))
        return any(pod["spec"].get("nodeName") for pod in pods)

    await eventually(bound, "a bound pod")
    assert await pod_names(api, namespace, ready=True) == []
    kubelet.can_load.set()
    await until_ready(api, namespace, 1)


@pytest.mark.usefixtures("lws_controller")
async def test_groups_have_names_labels_and_status_of_a_leader_worker_set(
    api: Api, namespace: str, kubelet: FakeKubelet
) -> None:
    await kubelet.add_node(8)
    await create_lws(api, namespace, "m", replicas=2, size=2)
    await ready(api, namespace, "m-0", "m-0-1", "m-1", "m-1-1")
    worker = await api.get(at("pods", namespace, "m-1-1"))
    assert (worker["metadata"]["labels"][GROUP], worker["metadata"]["labels"][WORKER]) == ("1", "1")

    async def told() -> bool:
        scale = await api.get(at("leaderworkersets", namespace, "m", "scale"))
        selected = await api.items(at("pods", namespace), labelSelector=scale["status"]["selector"])
        names = [pod["metadata"]["name"] for pod in selected]
        lws = await api.get(at("leaderworkersets", namespace, "m"))
        return sorted(names) == ["m-0", "m-1"] and lws["status"]["readyReplicas"] == 2

    await eventually(told, "a status with the leaders' selector")


@pytest.mark.usefixtures("lws_controller")
async def test_the_highest_group_goes_first(api: Api, namespace: str, kubelet: FakeKubelet) -> None:
    await kubelet.add_node(8)
    await create_lws(api, namespace, "m", replicas=3, size=2)
    names = ["m-0", "m-0-1", "m-1", "m-1-1", "m-2", "m-2-1"]
    await ready(api, namespace, *names)
    await api.scale(at("leaderworkersets", namespace, "m"), 1)
    await ready(api, namespace, "m-0", "m-0-1")


@pytest.mark.usefixtures("lws_controller")
async def test_a_group_that_loses_a_pod_is_made_anew(
    api: Api, namespace: str, kubelet: FakeKubelet
) -> None:
    await kubelet.add_node(8)
    await create_lws(api, namespace, "m", replicas=1, size=2)
    await ready(api, namespace, "m-0", "m-0-1")
    old = (await api.get(at("pods", namespace, "m-0")))["metadata"]["uid"]
    await api.delete(at("pods", namespace, "m-0-1"))

    async def anew() -> bool:
        names = await pod_names(api, namespace, ready=True)
        if names != ["m-0", "m-0-1"]:
            return False
        return (await api.get(at("pods", namespace, "m-0")))["metadata"]["uid"] != old

    await eventually(anew, "a new group")


@pytest.mark.usefixtures("lws_controller")
async def test_a_rollout_has_a_group_more_and_then_all_are_new(
    api: Api, namespace: str, kubelet: FakeKubelet
) -> None:
    await kubelet.add_node(8)
    await create_lws(api, namespace, "m", replicas=2, size=1, surge=1)
    await ready(api, namespace, "m-0", "m-1")
    path = at("leaderworkersets", namespace, "m")
    lws = await api.get(path)
    template = lws["spec"]["leaderWorkerTemplate"]
    template["workerTemplate"]["spec"]["containers"][0]["image"] = "shoal:new"
    most: list[int] = []

    async def watch() -> None:
        async with api.watch(at("leaderworkersets", namespace)) as events:
            async for _, seen in events:
                most.append(seen["status"].get("replicas", 0))

    watching = asyncio.create_task(watch())
    await api.replace(path, lws)

    async def all_new() -> bool:
        pods = await api.items(at("pods", namespace))
        images = [pod["spec"]["containers"][0]["image"] for pod in pods]
        return images == ["shoal:new", "shoal:new"]

    await eventually(all_new, "the end of the rollout")
    await ready(api, namespace, "m-0", "m-1")
    watching.cancel()
    assert max(most) == 3


async def test_a_deployment_surges_in_a_rollout(
    api: Api, namespace: str, kubelet: FakeKubelet
) -> None:
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m", replicas=2, surge=1)
    await until_ready(api, namespace, 2)
    kubelet.can_load.clear()
    await roll_out(api, namespace, "m", "shoal:new")

    async def surged() -> bool:
        deployment = await api.get(at("deployments", namespace, "m"))
        return deployment["status"]["replicas"] == 3 and deployment["spec"]["replicas"] == 2

    await eventually(surged, "a third pod")


@pytest.mark.usefixtures("kserve_controller")
async def test_an_inference_service_gets_a_deployment_that_it_leaves_alone(
    api: Api, namespace: str, kubelet: FakeKubelet
) -> None:
    await kubelet.add_node(8)
    await create_inference_service(api, namespace, "m")
    await until_ready(api, namespace, 1)
    path = at("deployments", namespace, "m-predictor")
    await api.scale(path, 2)
    await until_ready(api, namespace, 2)

    async def is_ready() -> bool:
        service = await api.get(at("inferenceservices", namespace, "m"))
        conditions = {each["type"]: each["status"] for each in service["status"]["conditions"]}
        return conditions["Ready"] == "True"

    await eventually(is_ready, "the service to be ready")
    assert (await api.get(path))["spec"]["replicas"] == 2
