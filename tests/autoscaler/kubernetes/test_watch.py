from __future__ import annotations

from typing import Any

import pytest

from shoal.autoscaler.kubernetes import watch as watch_module
from shoal.autoscaler.kubernetes.api import METADATA_LIST_ONLY, METADATA_ONLY, Api
from shoal.autoscaler.kubernetes.pods import Pod
from shoal.autoscaler.kubernetes.watch import Watch
from shoal.clock import VirtualClock
from tests.autoscaler.kubernetes.fake_api import FakeApi
from tests.autoscaler.kubernetes.objects import pod_object
from tests.autoscaler.kubernetes.waiting import running, until

PODS = "api/v1/pods"
PATH = "/api/v1/namespaces/llm/pods"


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "FIRST_BACKOFF_S", 0.01)
    monkeypatch.setattr(watch_module, "MAX_BACKOFF_S", 0.02)


def names(watch: Watch[Pod]) -> set[str]:
    return {name for _, name in watch.objects}


async def test_it_lists_then_follows(server: FakeApi, api: Api) -> None:
    await server.put(PODS, pod_object("a", labels={"app": "x"}))
    await server.put(PODS, pod_object("other", labels={"app": "y"}))
    watch = Watch(api, PATH, Pod, clock=VirtualClock(), labels="app=x")
    assert watch.age() is None
    async with running(watch.run()):
        await until(lambda: names(watch) == {"a"})
        await server.put(PODS, pod_object("b", labels={"app": "x"}))
        await until(lambda: names(watch) == {"a", "b"})
        await server.delete(PODS, "a")
        await until(lambda: names(watch) == {"b"})
        assert server.num("GET", "/pods") == 1
        assert watch.age() == 0.0
    assert server.agents == {"shoal-autoscaler"}


async def test_metadata_alone_is_asked_for_in_the_list_and_in_the_watch(
    server: FakeApi, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted: list[str] = []
    call_api = api._client.call_api

    async def noting(*args: Any, header_params: dict[str, str], **more: Any) -> Any:
        accepted.append(header_params["Accept"])
        return await call_api(*args, header_params=header_params, **more)

    monkeypatch.setattr(api._client, "call_api", noting)
    watch = Watch(api, PATH, Pod, clock=VirtualClock(), metadata_only=True)
    async with running(watch.run()):
        await until(lambda: watch.is_open)
    assert accepted == [METADATA_LIST_ONLY, METADATA_ONLY]


async def test_it_goes_on_from_where_a_watch_ended(server: FakeApi, api: Api) -> None:
    watch = Watch(api, PATH, Pod, clock=VirtualClock())
    async with running(watch.run()):
        await until(lambda: server.num("WATCH", "/pods") == 1)
        server.cut()
        await server.put(PODS, pod_object("a"))
        await until(lambda: names(watch) == {"a"})
    assert server.num("GET", "/pods") == 1


async def test_a_version_that_is_gone_is_listed_anew(server: FakeApi, api: Api) -> None:
    await server.put(PODS, pod_object("a"))
    watch = Watch(api, PATH, Pod, clock=VirtualClock())
    async with running(watch.run()):
        await until(lambda: watch.is_open)
        await server.compact()
        await server.put(PODS, pod_object("b"))
        await until(lambda: names(watch) == {"a", "b"})
    assert server.num("GET", "/pods") == 2


async def test_an_outage_keeps_what_was_known_and_tells_its_age(server: FakeApi, api: Api) -> None:
    clock = VirtualClock()
    await server.put(PODS, pod_object("a"))
    watch = Watch(api, PATH, Pod, clock=clock)
    async with running(watch.run()):
        await until(lambda: watch.is_open)
        server.is_down = True
        server.cut()
        await until(lambda: watch.problem is not None)
        clock.advance(30.0)
        assert watch.age() == 30.0
        assert names(watch) == {"a"}
        server.is_down = False
        await server.put(PODS, pod_object("b"))
        await until(lambda: names(watch) == {"a", "b"})
        assert watch.age() == 0.0
        assert watch.problem is None


async def test_what_may_not_be_listed_is_told(server: FakeApi, api: Api) -> None:
    server.answers["GET", "pods"] = [403] * 3
    watch = Watch(api, PATH, Pod, clock=VirtualClock())
    async with running(watch.run()):
        await until(lambda: watch.problem is not None)
        assert "403" in str(watch.problem)
        assert "docs/kubernetes.md" in str(watch.problem)
        assert watch.age() is None
        await until(lambda: watch.is_open)
