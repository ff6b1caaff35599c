"""The rights of `deploy/autoscaler/rbac.yaml`: enough for all tests here, and no more."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .cluster.api import Api, ApiError, at
from .cluster.rights import grant, may
from .cluster.workloads import create_deployment
from .control_plane.launcher import ControlPlane


@pytest.fixture
async def autoscaler_api(
    control_plane: ControlPlane, api: Api, namespace: str
) -> AsyncIterator[Api]:
    """As the autoscaler's service account sees the cluster."""
    token = await grant(api, namespace)
    async with Api(control_plane.url, token, control_plane.tls) as theirs:
        yield theirs


@pytest.mark.parametrize(
    ("verb", "resource", "sub"),
    [
        ("get", "secrets", ""),
        ("list", "configmaps", ""),
        ("create", "pods", ""),
        ("delete", "pods", ""),
        ("create", "pods", "exec"),
        ("update", "deployments.apps", ""),
        ("patch", "deployments.apps", ""),
        ("delete", "deployments.apps", ""),
        ("update", "scalingpolicies.autoscaling.shoal.dev", ""),
        ("delete", "scalingpolicies.autoscaling.shoal.dev", ""),
        ("delete", "leases.coordination.k8s.io", ""),
        ("create", "serviceaccounts", "token"),
        ("create", "rolebindings.rbac.authorization.k8s.io", ""),
    ],
)
async def test_what_it_may_not(
    autoscaler_api: Api, namespace: str, verb: str, resource: str, sub: str
) -> None:
    assert not await may(autoscaler_api, verb, resource, namespace, sub)


async def test_replicas_through_scale_alone(api: Api, autoscaler_api: Api, namespace: str) -> None:
    await create_deployment(api, namespace, "m", replicas=1)
    path = at("deployments", namespace, "m")
    scale = await autoscaler_api.get(f"{path}/scale")
    scale["spec"]["replicas"] = 3
    del scale["metadata"]["resourceVersion"]  # its status changes meanwhile
    await autoscaler_api.replace(f"{path}/scale", scale)
    deployment = await autoscaler_api.get(path)
    assert deployment["spec"]["replicas"] == 3
    with pytest.raises(ApiError) as refused:
        await autoscaler_api.replace(path, deployment)
    assert refused.value.code == 403


async def test_other_leases_are_out_of_reach(autoscaler_api: Api, namespace: str) -> None:
    with pytest.raises(ApiError) as refused:
        await autoscaler_api.get(at("leases", namespace, "somebody-elses"))
    assert refused.value.code == 403


async def test_other_namespaces_are_out_of_reach(autoscaler_api: Api) -> None:
    for plural in ("pods", "deployments", "scalingpolicies"):
        with pytest.raises(ApiError) as refused:
            await autoscaler_api.items(at(plural, "default"))
        assert refused.value.code == 403
