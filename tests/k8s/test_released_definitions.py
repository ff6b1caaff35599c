"""What these tests scale is also what the released definitions of LWS and KServe allow.

They are other projects' and not in this repository: `SHOAL_CRDS` names a folder that has them, in
folders by project; else a folder `*/k8s/crds` beside the clone is looked at. Without one these
tests are left out, and the end of the run says so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .cluster.api import Api, Json, at
from .cluster.custom_resources import MANIFESTS, define, read_definition
from .cluster.eventually import eventually
from .cluster.fake_kubelet import FakeKubelet
from .cluster.holds import holds
from .cluster.workloads import inference_service, lws, pod_names

LWS = "leaderworkerset.x-k8s.io_leaderworkersets.yaml"
KSERVE = "serving.kserve.io_inferenceservices.yaml"


@pytest.fixture
async def released(
    request: pytest.FixtureRequest, api: Api, released_definitions: Path
) -> AsyncIterator[None]:
    """The definition whose file the test names, in the place of ours while it runs."""
    name = request.param
    await define(api, find_definition(released_definitions, name))
    yield
    await define(api, read_definition(MANIFESTS / name.split("_")[-1]))


def find_definition(folder: Path, name: str) -> Json:
    (path,) = folder.glob(f"*/{name}")
    return read_definition(path)


@pytest.mark.parametrize("released", [LWS], indirect=True)
@pytest.mark.usefixtures("released", "lws_controller")
async def test_lws(api: Api, namespace: str, kubelet: FakeKubelet) -> None:
    """Nothing that we write is dropped, and the double's status comes back in its `/scale`."""
    await kubelet.add_node(8)
    path = at("leaderworkersets", namespace, "m")
    asked = lws(namespace, "m", replicas=2, size=2, surge=1)
    assert holds(await api.create(at("leaderworkersets", namespace), asked), asked)

    async def told() -> bool:
        scale = await api.get(f"{path}/scale")
        pods = await pod_names(api, namespace, ready=True)
        return scale["status"].get("replicas") == 2 and pods == ["m-0", "m-0-1", "m-1", "m-1-1"]

    await eventually(told, "two groups and a status")
    written = await api.scale(path, 0)
    assert "replicas" not in written["spec"]


@pytest.mark.parametrize("released", [KSERVE], indirect=True)
@pytest.mark.usefixtures("released", "kserve_controller")
async def test_kserve(api: Api, namespace: str, kubelet: FakeKubelet) -> None:
    await kubelet.add_node(8)
    asked = inference_service(namespace, "m")
    assert holds(await api.create(at("inferenceservices", namespace), asked), asked)

    async def told() -> bool:
        service = await api.get(at("inferenceservices", namespace, "m"))
        conditions = service.get("status", {}).get("conditions", [])
        return {"type": "Ready", "status": "True"} in conditions

    await eventually(told, "a Ready InferenceService")
