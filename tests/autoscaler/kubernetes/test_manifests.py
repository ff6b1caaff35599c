"""deploy/autoscaler: the definition is the code's, the examples are good, the rights are enough."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from shoal.autoscaler.kubernetes.api import Api
from shoal.autoscaler.kubernetes.definition import definition, text
from shoal.autoscaler.kubernetes.policy_object import of_loaded
from shoal.autoscaler.settings.load import read_policies
from shoal.cli.autoscale import app
from tests.autoscaler.kubernetes import test_controller as controller
from tests.autoscaler.kubernetes.fake_api import FakeApi
from tests.autoscaler.kubernetes.waiting import until
from tests.kubernetes_api import NAMESPACE

DEPLOY = Path(__file__).parents[3] / "deploy" / "autoscaler"
EXAMPLES = sorted((DEPLOY / "examples").glob("*.yaml"))
VERBS = {"GET": "get", "WATCH": "watch", "POST": "create", "PUT": "update", "PATCH": "patch"}
Rule = dict[str, list[str]]


def manifests(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def test_the_definition_is_made_from_the_types() -> None:
    """If not: python -m shoal.autoscaler.kubernetes.definition > deploy/autoscaler/crd.yaml"""
    assert (DEPLOY / "crd.yaml").read_text() == text()


def test_the_definition_is_structural() -> None:
    """What Kubernetes demands of a schema: every value has a type, and no word of newer JSON
    Schema is in it."""

    def look(found: dict[str, Any], place: str) -> None:
        assert isinstance(found.get("type"), str), place
        assert not {"$ref", "anyOf", "oneOf", "const", "default"} & found.keys(), place
        assert isinstance(found.get("exclusiveMinimum", True), bool), place
        for name, each in found.get("properties", {}).items():
            look(each, f"{place}.{name}")
        for name in ("items", "additionalProperties"):
            if isinstance(found.get(name), dict):
                look(found[name], f"{place}.{name}")

    [version] = definition()["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    look(schema, "")
    assert schema["properties"]["spec"]["properties"]["router"]["nullable"]
    assert "Default: 5.0" in str(schema["properties"]["spec"]["properties"]["intervalSeconds"])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_good_policy(example: Path) -> None:
    [policy] = read_policies(example)
    assert of_loaded(policy, None).router_urls


def test_the_deployment_starts_a_command_that_there_is() -> None:
    [deployment] = [m for m in manifests("deployment.yaml") if m["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    command, *arguments = container["args"][0:2]
    assert [command, *arguments] == ["autoscale", "run"]
    run = get_command(app).commands["run"]  # type: ignore[attr-defined]
    known = {name for parameter in run.params for name in parameter.opts}
    options = {shlex.split(argument)[0].partition("=")[0] for argument in container["args"][2:]}
    assert options <= known
    service_account = next(m for m in manifests("rbac.yaml") if m["kind"] == "ServiceAccount")
    name = deployment["spec"]["template"]["spec"]["serviceAccountName"]
    assert name == service_account["metadata"]["name"]


def allowed() -> list[Rule]:
    roles = [m for m in manifests("rbac.yaml") if m["kind"] in ("ClusterRole", "Role")]
    return list(itertools.chain.from_iterable(role["rules"] for role in roles))


def needed(method: str, path: str) -> tuple[str, str, str]:
    """(group, resource, verb) of a request."""
    parts = path.strip("/").split("/")
    group = "" if parts[0] == "api" else parts[1]
    rest = parts[2 if parts[0] == "api" else 3 :]
    if rest[:1] == ["namespaces"]:
        rest = rest[2:]
    resource = "/".join([rest[0], *rest[2:]])
    verb = "list" if method == "GET" and len(rest) == 1 else VERBS[method]
    return group, resource, verb


async def test_every_call_is_among_the_rights(server: FakeApi, api: Api) -> None:
    """All that a controller does in its life; tests/k8s has a real API server say the same."""
    await server.put(controller.DEPLOYMENTS, controller.deployment())
    await server.put(controller.POLICIES, controller.policy())
    async with controller.controlling(api):
        await until(lambda: controller.replicas(server) == 2)
        await until(lambda: "Scaled" in controller.told(server))
        await until(lambda: server.num("PATCH", "/status"))
    rules = allowed()
    for method, path in set(server.requests):
        if f"namespaces/{NAMESPACE}" not in path and "scalingpolicies" not in path:
            continue  # discovery: open to everybody who is known
        group, resource, verb = needed(method, path)
        assert any(
            group in rule["apiGroups"] and resource in rule["resources"] and verb in rule["verbs"]
            for rule in rules
        ), f"{verb} {resource} of {group!r}"


def test_no_right_is_a_star() -> None:
    assert not [rule for rule in allowed() if "*" in str(rule)]
