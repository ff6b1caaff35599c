from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from shoal.autoscaler.kubernetes.policy_object import (
    PolicyMetadata,
    PolicyObject,
    Scaled,
    of_object,
    taken,
)
from shoal.autoscaler.kubernetes.resources import Reference
from shoal.autoscaler.settings.documents import RouterSettings
from shoal.errors import ConfigError

ROUTER = {"url": "http://router:8081"}
DEPLOYMENT = {"kind": "Deployment", "name": "m"}
KSERVE = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "name": "m"}


def policy(
    name: str = "a", *, day: int = 1, targets: tuple[dict[str, str] | None, ...] = (DEPLOYMENT,),
    namespace: str = "llm", default: RouterSettings | None = None, **spec: Any,
) -> Scaled:  # fmt: skip
    variants = [
        {"name": f"v{i}", "endpointLabels": {"v": str(i)}, **({"target": t} if t else {})}
        for i, t in enumerate(targets)
    ]
    metadata = PolicyMetadata(
        name=name, namespace=namespace, uid="u", generation=3,
        creation_timestamp=datetime(2026, 1, day, tzinfo=UTC),
    )  # fmt: skip
    return of_object(
        PolicyObject(metadata, {"model": "m", "variants": variants, "router": ROUTER, **spec}),
        default,
    )


def test_all_that_is_needed() -> None:
    found = policy(router={**ROUTER, "moreUrls": ["http://b:1"], "keyEnv": "SHOAL_ROUTER_KEY"})
    assert found.key == "llm/a"
    assert found.targets == {"v0": Reference("apps/v1", "Deployment", "llm", "m")}
    assert found.router_urls == ("http://router:8081", "http://b:1")
    assert found.key_env == "SHOAL_ROUTER_KEY"
    assert found.generation == 3
    assert found.regarding is not None
    assert found.regarding.kind == "ScalingPolicy"


def test_the_router_of_the_process_is_for_policies_without_one() -> None:
    default = RouterSettings(url="http://default:1", key_env="SHOAL_ROUTER_KEY")
    assert policy(router=None, default=default).router_urls == ("http://default:1",)
    assert policy(default=default).key_env is None


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"router": None}, "spec.router: missing"),
        ({"targets": (None,)}, "'v0' has no target"),
        ({"router": {**ROUTER, "keyEnv": "HOME"}}, "must begin with SHOAL_ROUTER_KEY"),
        ({"mode": "faster"}, "not one of advise, auto"),
    ],
)
def test_what_is_wrong_is_told(how: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        policy(**how)


def test_an_object_without_a_spec_is_told() -> None:
    with pytest.raises(ConfigError, match="model"):
        of_object(PolicyObject(PolicyMetadata(name="a")), None)


def test_the_older_policy_has_a_target() -> None:
    young, old = policy("a", day=2), policy("b", day=1)
    problems = taken([young, old])
    assert list(problems) == ["llm/a"]
    assert "llm/b already" in problems["llm/a"].message
    assert taken([young, policy("b", day=1, namespace="other")]) == {}
    assert taken([young, policy("b", day=1, mode="advise")]) == {}


def test_a_service_and_its_deployment_are_one_target() -> None:
    predictor = {"kind": "Deployment", "name": "m-predictor"}
    service = policy("a", targets=(KSERVE,))
    assert list(taken([service, policy("b", day=2, targets=(predictor,))])) == ["llm/b"]


def test_two_variants_cannot_share_a_target() -> None:
    problems = taken([policy("a", targets=(DEPLOYMENT, DEPLOYMENT))])
    assert "two variants" in problems["llm/a"].message


def test_a_policy_that_is_refused_keeps_no_target_from_others() -> None:
    refused = policy("a", day=1, targets=(DEPLOYMENT, DEPLOYMENT))
    assert list(taken([refused, policy("b", day=2)])) == ["llm/a"]
