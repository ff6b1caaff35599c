"""One control plane for all tests here; each has a namespace, nodes and controllers of its own."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.autoscaler.kubernetes.waiting import running
from tests.router.e2e.processes import Nursery

from .cluster.api import Api, at
from .cluster.autoscalers import Autoscalers
from .cluster.custom_resources import MANIFESTS, define, read_definition
from .cluster.eventually import eventually
from .cluster.fake_kubelet import FakeKubelet
from .cluster.fake_router import FakeRouter
from .cluster.kserve_controller import KserveController
from .cluster.lws_controller import LwsController
from .cluster.rights import grant
from .cluster.targets import Bench
from .control_plane.launcher import ControlPlane

REPOSITORY = Path(__file__).parents[2]
BUILD = Path(__file__).parent / "control_plane" / "build.sh"
POLICY_DEFINITION = REPOSITORY / "deploy" / "autoscaler" / "crd.yaml"
PRELOADED = (
    "kubernetes_asyncio.client",
    "shoal.autoscaler.admin.app",
    "shoal.autoscaler.kubernetes.run",
)
LEFT_OUT = pytest.StashKey[str]()


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.k8s)
            # The tests' own client leaves a socket behind when a TLS handshake is cancelled.
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Running, with the custom resources of `manifests/`."""
    built = subprocess.run([BUILD, "--check"], capture_output=True, text=True)
    if built.returncode:
        pytest.exit(f"no control plane is built here: make test-k8s, or {BUILD}", returncode=1)
    folder = tmp_path_factory.mktemp("control-plane")
    plane = ControlPlane(Path(built.stdout.strip()), folder)
    try:
        plane.start()
        asyncio.run(_define_custom_resources(plane))
        yield plane
    finally:
        plane.stop()
        shutil.rmtree(folder / "etcd", ignore_errors=True)  # the logs stay for whoever looks


async def _define_custom_resources(plane: ControlPlane) -> None:
    async with Api(plane.url, plane.admin_token, plane.tls) as api:
        for path in [*sorted(MANIFESTS.glob("*.yaml")), POLICY_DEFINITION]:
            await define(api, read_definition(path))


@pytest.fixture(scope="session")
def released_definitions(request: pytest.FixtureRequest) -> Path:
    """A folder with folders of released custom resource definitions, by project."""
    if named := os.environ.get("SHOAL_CRDS"):
        return Path(named)
    found = next(REPOSITORY.parent.glob("*/k8s/crds"), None)
    if found is None:
        request.config.stash[LEFT_OUT] = "the released definitions of LWS and KServe"
        pytest.skip("no released definitions: SHOAL_CRDS names no folder")
    return found


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if (what := config.stash.get(LEFT_OUT, None)) is not None:
        terminalreporter.section(f"LEFT OUT: {what}", sep="#")
        terminalreporter.write_line("SHOAL_CRDS=FOLDER names a folder that has them.")


@pytest.fixture
async def api(control_plane: ControlPlane) -> AsyncIterator[Api]:
    """An administrator's view."""
    async with Api(control_plane.url, control_plane.admin_token, control_plane.tls) as api:
        yield api


@pytest.fixture
async def namespace(api: Api) -> AsyncIterator[str]:
    """A new one."""
    name = f"test-{secrets.token_hex(4)}"
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    await api.create(at("namespaces"), namespace)
    yield name
    # Not left to the namespace's deletion: that waits for 5 s, and for kubelets that are gone.
    for plural in (
        "inferenceservices",
        "leaderworkersets",
        "deployments",
        "statefulsets",
        "replicasets",
    ):
        await api.delete(at(plural, name))
    await eventually(lambda: _is_emptied(api, name), "an empty namespace")
    await api.delete(at("namespaces", name=name))


async def _is_emptied(api: Api, namespace: str) -> bool:
    await api.delete(at("pods", namespace), grace_s=0)
    left = [await api.items(at(plural, namespace)) for plural in ("replicasets", "pods")]
    return not any(left)


@pytest.fixture
async def kubelet(api: Api, namespace: str) -> AsyncIterator[FakeKubelet]:
    """Of this test's nodes; there are none at first."""
    async with FakeKubelet(api, namespace) as kubelet:
        yield kubelet
        await kubelet.remove_nodes()


@pytest.fixture
async def lws_controller(api: Api, namespace: str) -> AsyncIterator[None]:
    """LeaderWorkerSets of this namespace get their pods."""
    async with running(LwsController(api, namespace).run()):
        yield


@pytest.fixture
async def kserve_controller(api: Api, namespace: str) -> AsyncIterator[None]:
    """InferenceServices of this namespace get their Deployments."""
    async with running(KserveController(api, namespace).run()):
        yield


@pytest.fixture
async def router(kubelet: FakeKubelet) -> AsyncIterator[FakeRouter]:
    """In front of the pods of this namespace; nobody asks at first."""
    router = FakeRouter(kubelet.pods)
    async with router.serve():
        yield router


@pytest.fixture
def bench(control_plane: ControlPlane, namespace: str) -> Bench:
    """Opens targets of the controller in this process."""
    return Bench(control_plane, namespace)


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path_factory.mktemp("autoscalers"), *PRELOADED)
    yield nursery
    nursery.close()


@pytest.fixture
async def autoscalers(
    request: pytest.FixtureRequest,
    control_plane: ControlPlane,
    nursery: Nursery,
    api: Api,
    namespace: str,
) -> AsyncIterator[Autoscalers]:
    """Starts autoscalers with the rights of `deploy/autoscaler` in this namespace; with the
    parameter "everywhere" in all of them."""
    everywhere = getattr(request, "param", None) == "everywhere"
    token = await grant(api, namespace, everywhere=everywhere)
    kubeconfig = control_plane.write_kubeconfig("autoscaler", token, namespace)
    autoscalers = Autoscalers(nursery, kubeconfig, namespace, everywhere=everywhere)
    yield autoscalers
    autoscalers.close()
    faults = [fault for each in autoscalers.started for fault in each.faults()]
    assert faults == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what its autoscalers said last."""
    report = yield
    autoscalers = getattr(item, "funcargs", {}).get("autoscalers")
    if report.failed and autoscalers is not None:
        for number, autoscaler in enumerate(autoscalers.started):
            report.sections.append((f"autoscaler {number}", autoscaler.tail()))
    return report
