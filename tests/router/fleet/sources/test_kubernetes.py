"""Following EndpointSlices, against a small API server of our own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shoal.errors import ConfigError
from shoal.router.fleet.sources import kubernetes as kubernetes_module
from shoal.router.fleet.sources.kubernetes import EndpointSlices
from shoal.router.settings.discovery import KubernetesSource
from tests.kubernetes_api import NAMESPACE, kubeconfig
from tests.router.fleet.builders import until

from .fake_api import FakeApi, endpoint, fake_api, slice_

SELECTOR = "kubernetes.io/service-name=llama"


@pytest.fixture
async def api(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApi]:
    monkeypatch.setattr(kubernetes_module, "FIRST_BACKOFF_S", 0.01)
    monkeypatch.setattr(kubernetes_module, "MAX_BACKOFF_S", 0.02)
    async with fake_api() as made:
        yield made


class Seen:
    def __init__(self) -> None:
        self.lists: list[dict[str, bool]] = []

    def now(self, *urls: str) -> Callable[[], bool]:
        return lambda: bool(self.lists) and list(self.lists[-1]) == list(urls)


@contextlib.asynccontextmanager
async def following(api: FakeApi, folder: Path) -> AsyncIterator[Seen]:
    seen = Seen()
    source = EndpointSlices(
        KubernetesSource(selector=SELECTOR, kubeconfig=kubeconfig(api.url, folder))
    )
    task = asyncio.create_task(
        source.run(
            lambda found: seen.lists.append({f.endpoint.url: f.is_terminating for f in found})
        )
    )
    try:
        yield seen
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


A, B, C = (f"http://10.0.0.{number}:8000" for number in (1, 2, 3))


async def test_list_then_watch(api: FakeApi, tmp_path: Path) -> None:
    api.put(slice_("s1", endpoint("10.0.0.1")))
    async with following(api, tmp_path) as seen:
        await until(seen.now(A))
        api.put(slice_("s2", endpoint("10.0.0.2")))
        await until(seen.now(A, B))
        api.put(slice_("s2", endpoint("10.0.0.3")))
        await until(seen.now(A, C))
        api.delete("s1")
        await until(seen.now(C))
    assert api.num_lists == 1
    assert api.queries[0]["labelSelector"] == SELECTOR
    assert api.queries[1]["resourceVersion"] == "101"
    assert api.authorizations[0] == "Bearer secret"


async def test_a_terminating_pod(api: FakeApi, tmp_path: Path) -> None:
    api.put(slice_("s1", endpoint("10.0.0.1")))
    async with following(api, tmp_path) as seen:
        await until(seen.now(A))
        leaving = {"addresses": ["10.0.0.1"], "conditions": {"ready": False, "terminating": True}}
        api.put(slice_("s1", leaving))
        await until(lambda: seen.lists[-1] == {A: True})


async def test_a_watch_that_ends_goes_on_where_it_was(api: FakeApi, tmp_path: Path) -> None:
    async with following(api, tmp_path) as seen:
        await until(lambda: api.num_watches == 1)
        api.put(slice_("s1", endpoint("10.0.0.1")))
        await until(seen.now(A))
        api.bookmark()
        api.cut()
        await until(lambda: api.num_watches == 2)
        api.put(slice_("s2", endpoint("10.0.0.2")))
        await until(seen.now(A, B))
    assert api.num_lists == 1
    assert api.queries[2]["resourceVersion"] in ("101", "102")  # the bookmark may not have come


@pytest.mark.parametrize("when", ["during", "between"])
async def test_a_version_that_is_gone_means_a_new_list(
    api: FakeApi, tmp_path: Path, when: str
) -> None:
    api.put(slice_("s1", endpoint("10.0.0.1")))
    async with following(api, tmp_path) as seen:
        await until(lambda: api.num_watches == 1)
        # Missed by the watch, found by the list.
        api.slices["s2"] = slice_("s2", endpoint("10.0.0.2"))
        if when == "during":
            api.gone()
        else:
            api.oldest = api.version = api.version + 1
            api.cut()
        await until(seen.now(A, B))
    assert api.num_lists == 2


async def test_a_server_in_trouble_keeps_the_old_list(api: FakeApi, tmp_path: Path) -> None:
    api.put(slice_("s1", endpoint("10.0.0.1")))
    with capture_logs() as logs:
        async with following(api, tmp_path) as seen:
            await until(lambda: api.num_watches == 1)
            api.status = 503
            api.send({"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "x"}})
            await until(lambda: api.num_lists > 3)
            assert len(seen.lists) == 1
            api.status = 200
            api.slices.clear()
            await until(seen.now())
    reasons = [log["reason"] for log in logs if log["event"] == "discovery.kubernetes_again"]
    assert reasons == ["the API server answered 500: x", "the API server answered 503: no"]


async def test_a_refusal_says_where_to_look(api: FakeApi, tmp_path: Path) -> None:
    api.status = 403
    with capture_logs() as logs:
        async with following(api, tmp_path):
            await until(lambda: logs)
    assert "docs/discovery.md" in logs[0]["reason"]


async def test_answers_that_are_none(api: FakeApi, tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with following(api, tmp_path):
            await until(lambda: api.num_watches == 1)
            api.send({"type": "ADDED", "object": {"metadata": {"name": 7}}})
            await until(lambda: logs)
    assert "not the API's" in logs[0]["reason"]


async def test_long_events(api: FakeApi, tmp_path: Path) -> None:
    many = [endpoint(f"10.1.{i // 250}.{i % 250}", pod="p" * 200 + str(i)) for i in range(1000)]
    async with following(api, tmp_path) as seen:
        await until(lambda: api.num_watches == 1)
        api.put(slice_("s1", *many))
        await until(lambda: seen.lists and len(seen.lists[-1]) == 1000)


async def test_a_port_that_cannot_be_told_is_logged_once(api: FakeApi, tmp_path: Path) -> None:
    ports = [{"name": "a", "port": 1}, {"name": "b", "port": 2}]
    api.put(slice_("s1", endpoint("10.0.0.1"), ports=ports))
    with capture_logs() as logs:
        async with following(api, tmp_path) as seen:
            await until(lambda: api.num_watches == 1)
            api.put(slice_("s2", endpoint("10.0.0.2")))
            await until(seen.now(B))
    assert [log["slice"] for log in logs if log["event"] == "discovery.kubernetes_port"] == ["s1"]


async def test_no_cluster_to_be_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    source = EndpointSlices(KubernetesSource(selector=SELECTOR, namespace=NAMESPACE))
    with capture_logs() as logs:
        task = asyncio.create_task(source.run(lambda found: None))
        await until(lambda: logs)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert "no access to Kubernetes" in logs[0]["reason"]


def test_the_library_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'shoal\[kubernetes\]'"):
        EndpointSlices(KubernetesSource(selector=SELECTOR))
