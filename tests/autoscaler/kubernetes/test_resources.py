from __future__ import annotations

import msgspec
import pytest

from shoal.autoscaler.kubernetes.api import Api
from shoal.autoscaler.kubernetes.resources import (
    Reference,
    ResourceList,
    Resources,
    Unscalable,
    group_path,
    plural_of,
)
from tests.autoscaler.kubernetes.fake_api import FakeApi

LISTED = msgspec.convert(
    {
        "resources": [
            {"name": "widgets", "kind": "Widget", "namespaced": True},
            {"name": "widgets/scale", "kind": "Scale", "namespaced": True},
            {"name": "gadgets", "kind": "Gadget", "namespaced": True},
            {"name": "gadgets/status", "kind": "Gadget", "namespaced": True},
            {"name": "worlds", "kind": "World", "namespaced": False},
            {"name": "worlds/scale", "kind": "Scale", "namespaced": False},
        ]
    },
    ResourceList,
)


def test_the_path_of_a_group() -> None:
    assert group_path("apps/v1") == "/apis/apps/v1"
    assert group_path("v1") == "/api/v1"


def test_a_kind_with_a_scale_is_found() -> None:
    assert plural_of(LISTED, "x/v1", "Widget") == "widgets"


@pytest.mark.parametrize(
    ("kind", "reason", "message"),
    [
        ("Gadget", "NoScale", "no /scale"),
        ("World", "NotNamespaced", "no namespace"),
        ("Wigdet", "NoSuchKind", "it has: Gadget, Widget, World"),
    ],
)
def test_others_are_refused_by_name(kind: str, reason: str, message: str) -> None:
    with pytest.raises(Unscalable, match=message) as caught:
        plural_of(LISTED, "x/v1", kind)
    assert caught.value.reason == reason


async def test_discovery_is_asked_once(server: FakeApi, api: Api) -> None:
    resources = Resources(api)
    for name in ("a", "b"):
        path = await resources.collection(Reference("apps/v1", "Deployment", "llm", name))
        assert path == "/apis/apps/v1/namespaces/llm/deployments"
    assert server.num("GET", "/apis/apps/v1") == 1


async def test_a_group_that_is_not_installed_is_told(api: Api) -> None:
    with pytest.raises(Unscalable, match="is the definition of 'Thing' installed") as caught:
        await Resources(api).collection(Reference("none.dev/v1", "Thing", "llm", "a"))
    assert caught.value.reason == "NoSuchKind"
