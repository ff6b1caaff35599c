"""Policies as objects, against the fake API server: found, carried out, refused, left."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from shoal.autoscaler.collect.fetch import open_client
from shoal.autoscaler.kubernetes import controller as controller_module
from shoal.autoscaler.kubernetes import policy_runner
from shoal.autoscaler.kubernetes.api import Api
from shoal.autoscaler.kubernetes.controller import Controller
from shoal.autoscaler.kubernetes.event_writer import EventWriter
from shoal.autoscaler.kubernetes.policy_object import of_loaded
from shoal.autoscaler.kubernetes.policy_runner import PolicyRunner, Services
from shoal.autoscaler.kubernetes.resources import Resources
from shoal.autoscaler.record.memory import Memory
from shoal.autoscaler.settings.load import decode_spec, of_spec
from shoal.autoscaler.telemetry import Telemetry
from shoal.clock import MonotonicClock
from tests.autoscaler.kubernetes.fake_api import FakeApi, Object
from tests.autoscaler.kubernetes.waiting import running, until

POLICIES = "apis/autoscaling.shoal.dev/v1alpha1/scalingpolicies"
DEPLOYMENTS = "apis/apps/v1/deployments"
GROUPS = "apis/leaderworkerset.x-k8s.io/v1/leaderworkersets"
EVENTS = "apis/events.k8s.io/v1/events"
SERVICES = "apis/serving.kserve.io/v1beta1/inferenceservices"
NOBODY = "http://127.0.0.1:1"
"""No router listens there: nothing is known of the load, so only the bounds move replicas."""


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_runner, "FIRST_RETRY_S", 0.05)
    monkeypatch.setattr(policy_runner, "MAX_RETRY_S", 0.05)
    monkeypatch.setattr(policy_runner, "CHECK_EVERY_S", 0.05)


@contextlib.asynccontextmanager
async def controlling(api: Api, **how: Any) -> AsyncIterator[Memory]:
    clock, memory = MonotonicClock(), Memory()
    async with open_client() as client:
        services = Services(
            api=api, resources=Resources(api), client=client, clock=clock, drain_timeout_s=1.0,
            memory=memory, telemetry=Telemetry(memory), environ={"SHOAL_ROUTER_KEY": "key"},
        )  # fmt: skip
        events = EventWriter(api, instance="test", clock=clock)
        controller = Controller(services, events=events, clock=clock, **how)
        async with running(controller.run()):
            yield memory


def deployment(name: str = "llama", replicas: int = 0) -> Object:
    selector = {"matchLabels": {"app": name}}
    return {"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": selector}}


def policy(name: str = "chat", *, target: str = "llama", least: int = 2, **spec: Any) -> Object:
    variant = {"target": {"kind": "Deployment", "name": target}, "minReplicas": least}
    return {
        "metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "model": "llama", "intervalSeconds": 0.1, "router": {"url": NOBODY},
            "variants": [variant], **spec,
        },
    }  # fmt: skip


def replicas(server: FakeApi, name: str = "llama") -> int:
    return int(server.get(DEPLOYMENTS, name)["spec"]["replicas"])


def condition(server: FakeApi, kind: str, name: str = "chat") -> tuple[str, str]:
    """Status and reason."""
    status = server.get(POLICIES, name).get("status", {})
    found = {each["type"]: each for each in status.get("conditions", ())}
    return (found[kind]["status"], found[kind]["reason"]) if kind in found else ("", "")


def told(server: FakeApi) -> list[str]:
    return [event["reason"] for event in server.of(EVENTS).objects.values()]


async def test_a_policy_is_carried_out_and_reported(server: FakeApi, api: Api) -> None:
    await server.put(DEPLOYMENTS, deployment())
    await server.put(POLICIES, policy())
    async with controlling(api) as memory:
        await until(lambda: replicas(server) == 2)
        await until(lambda: "Scaled" in told(server))
        await until(lambda: condition(server, "Ready") == ("False", "NoMetrics"))
        [event] = server.of(EVENTS).objects.values()
        assert event["regarding"]["kind"] == "ScalingPolicy"
        assert event["regarding"]["uid"] == server.get(POLICIES, "chat")["metadata"]["uid"]
        assert event["note"].startswith("default: 0 -> 2 replicas: ")
        status = server.get(POLICIES, "chat")["status"]
        assert status["observedGeneration"] == 1
        assert status["desired"] == 2
        assert status["variants"][0]["name"] == "default"
        assert [model.name for model in memory] == ["llm/chat"]


async def test_a_policy_that_changes_is_carried_out_anew(server: FakeApi, api: Api) -> None:
    await server.put(DEPLOYMENTS, deployment())
    await server.put(POLICIES, policy())
    async with controlling(api) as memory:
        await until(lambda: replicas(server) == 2)
        await server.put(POLICIES, policy(least=3))
        await until(lambda: replicas(server) == 3)
        await until(lambda: server.get(POLICIES, "chat")["status"]["observedGeneration"] == 2)
        await server.delete(POLICIES, "chat")
        await until(lambda: not list(memory))


async def test_a_policy_that_is_wrong_says_so_and_harms_no_other(server: FakeApi, api: Api) -> None:
    await server.put(DEPLOYMENTS, deployment())
    await server.put(POLICIES, policy("wrong", target="llama", mode="faster"))
    await server.put(POLICIES, policy("good"))
    async with controlling(api):
        await until(lambda: replicas(server) == 2)
        await until(lambda: condition(server, "Ready", "wrong") == ("False", "Invalid"))
        message = server.get(POLICIES, "wrong")["status"]["message"]
        assert message == "spec: mode: 'faster' is not one of advise, auto"
        await until(lambda: "Invalid" in told(server))
        await server.delete(POLICIES, "good")
        mended = policy("wrong", target="llama", least=4)
        await server.put(POLICIES, mended)
        await until(lambda: replicas(server) == 4)


async def test_advice_changes_nothing(server: FakeApi, api: Api) -> None:
    await server.put(DEPLOYMENTS, deployment())
    await server.put(POLICIES, policy(mode="advise"))
    async with controlling(api):
        await until(lambda: "Advised" in told(server))
        await until(lambda: condition(server, "Advising") == ("True", "ModeAdvise"))
    assert replicas(server) == 0
    assert server.num("PUT", "/scale") == 0


async def test_two_policies_do_not_fight_over_a_target(server: FakeApi, api: Api) -> None:
    await server.put(DEPLOYMENTS, deployment())
    await server.put(POLICIES, policy("old", least=1))
    young = policy("young", least=5)
    young["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z"
    await server.put(POLICIES, young)
    async with controlling(api):
        await until(lambda: condition(server, "Ready", "young") == ("False", "TargetTaken"))
        await until(lambda: replicas(server) == 1)
        assert "llm/old" in server.get(POLICIES, "young")["status"]["message"]
        await server.delete(POLICIES, "old")
        await until(lambda: replicas(server) == 5)


async def test_a_fault_of_ours_in_one_policy_harms_no_other(
    server: FakeApi, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await server.put(DEPLOYMENTS, deployment())
    await server.put(DEPLOYMENTS, deployment("other"))
    await server.put(POLICIES, policy("faulty", target="other"))
    await server.put(POLICIES, policy("good"))
    is_faulty = True
    run = PolicyRunner.run

    async def faulty(runner: PolicyRunner) -> None:
        if is_faulty and runner._scaled.key == "llm/faulty":
            raise AssertionError("a fault")
        await run(runner)

    monkeypatch.setattr(PolicyRunner, "run", faulty)
    monkeypatch.setattr(controller_module, "AFTER_FAULT_S", 0.05)
    async with controlling(api):
        await until(lambda: replicas(server) == 2)
        assert replicas(server, "other") == 0
        is_faulty = False
        await until(lambda: replicas(server, "other") == 2)


async def test_a_cluster_that_knows_no_policies_is_told_what_to_do(
    server: FakeApi, api: Api
) -> None:
    server.answers["GET", "scalingpolicies"] = [404] * 100
    with structlog.testing.capture_logs() as logs:
        async with controlling(api):
            await until(lambda: [e for e in logs if e["event"] == "policies.not_defined"])


async def test_a_target_that_is_missing_is_waited_for(server: FakeApi, api: Api) -> None:
    await server.put(POLICIES, policy())
    async with controlling(api):
        await until(lambda: condition(server, "Ready") == ("False", "TargetNotFound"))
        await server.put(DEPLOYMENTS, deployment())
        await until(lambda: replicas(server) == 2)
        await server.delete(DEPLOYMENTS, "llama")
        await until(lambda: condition(server, "Ready") == ("False", "TargetNotFound"))
        await server.put(DEPLOYMENTS, deployment())  # another object of the same name
        await until(lambda: replicas(server) == 2)


async def test_a_group_has_as_many_pods_as_the_policy_counts(server: FakeApi, api: Api) -> None:
    template = {"leaderWorkerTemplate": {"size": 4}}
    await server.put(GROUPS, {"metadata": {"name": "llama"}, "spec": {"replicas": 0, **template}})
    made = policy()
    variant = made["spec"]["variants"][0]
    variant["target"] = {
        "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "llama",
    }  # fmt: skip
    await server.put(POLICIES, made)
    async with controlling(api):
        await until(lambda: condition(server, "Ready") == ("False", "WrongSize"))
        assert "set podsPerReplica: 4" in server.get(POLICIES, "chat")["status"]["message"]
        await server.put(POLICIES, {**made, "spec": {
            **made["spec"], "variants": [{**variant, "podsPerReplica": 4}]
        }})  # fmt: skip
        await until(lambda: server.get(GROUPS, "llama")["spec"]["replicas"] == 2)


async def test_a_kserve_service_is_scaled_only_when_kserve_leaves_it_to_us(
    server: FakeApi, api: Api
) -> None:
    await server.put(DEPLOYMENTS, deployment("svc-predictor"))
    service: Object = {"metadata": {"name": "svc", "annotations": {}}, "spec": {"predictor": {}}}
    await server.put(SERVICES, service)
    made = policy()
    made["spec"]["variants"][0]["target"] = {
        "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "name": "svc",
    }  # fmt: skip
    await server.put(POLICIES, made)
    async with controlling(api):
        await until(lambda: condition(server, "Ready") == ("False", "NotExternal"))
        assert "autoscalerClass: external" in server.get(POLICIES, "chat")["status"]["message"]
        service["metadata"]["annotations"] = {"serving.kserve.io/autoscalerClass": "external"}
        await server.put(SERVICES, service)
        await until(lambda: replicas(server, "svc-predictor") == 2)
        service["metadata"]["annotations"] = {}
        await server.put(SERVICES, service)
        await until(lambda: condition(server, "Ready") == ("False", "NotExternal"))


async def test_somebody_else_who_edits_is_told_of(server: FakeApi, api: Api) -> None:
    await server.put(DEPLOYMENTS, deployment())
    await server.put(POLICIES, policy())
    async with controlling(api):
        await until(lambda: replicas(server) == 2)
        await until(lambda: condition(server, "EditedByOthers") == ("False", "NobodyElse"))
        edited = server.get(DEPLOYMENTS, "llama")
        await server.put(DEPLOYMENTS, {**edited, "spec": {**edited["spec"], "replicas": 1}})
        await until(lambda: "ReplicasEdited" in told(server))
        await until(lambda: condition(server, "EditedByOthers") == ("True", "ReplicasEdited"))
        await until(lambda: replicas(server) == 2)


async def test_a_key_that_the_policy_may_not_name_is_refused(server: FakeApi, api: Api) -> None:
    await server.put(DEPLOYMENTS, deployment())
    await server.put(POLICIES, policy(router={"url": NOBODY, "keyEnv": "AWS_SECRET_ACCESS_KEY"}))
    missing = {"url": NOBODY, "keyEnv": "SHOAL_ROUTER_KEY_B"}
    await server.put(POLICIES, policy("absent", target="other", router=missing))
    await server.put(DEPLOYMENTS, deployment("other"))
    async with controlling(api):
        await until(lambda: condition(server, "Ready") == ("False", "Invalid"))
        assert (
            "must begin with SHOAL_ROUTER_KEY" in server.get(POLICIES, "chat")["status"]["message"]
        )
        await until(lambda: condition(server, "Ready", "absent") == ("False", "Invalid"))


async def test_policies_of_other_namespaces_are_left_alone(server: FakeApi, api: Api) -> None:
    await server.put(DEPLOYMENTS, deployment())
    await server.put(POLICIES, policy())
    other = policy("elsewhere")
    other["metadata"]["namespace"] = "other"
    await server.put(POLICIES, other)
    async with controlling(api, namespaces=["llm"]):
        await until(lambda: replicas(server) == 2)
    assert "status" not in server.get(POLICIES, "elsewhere", "other")


async def test_policies_of_a_file_need_no_objects(server: FakeApi, api: Api) -> None:
    await server.put(DEPLOYMENTS, deployment())
    loaded = of_spec(decode_spec(policy()["spec"]), name="chat", namespace="llm")
    async with controlling(api, from_file=[of_loaded(loaded, None)]):
        await until(lambda: replicas(server) == 2)
        await until(lambda: "Scaled" in told(server))
        [event] = server.of(EVENTS).objects.values()
        assert event["regarding"]["kind"] == "Deployment"
    assert not [path for _, path in server.requests if "scalingpolicies" in path]
