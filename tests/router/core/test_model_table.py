from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.router.core.model_table import Arm, ModelEntry, ModelTable, Route


def resolve(
    table: ModelTable, name: str, served: set[str] | None = None, **who: Any
) -> Route | None:
    """With every model served unless `served` says which."""
    return table.resolve(
        name,
        **{"session_id": None, "key_id": None, "draw": 0.0, **who},
        can_serve=lambda model, selector: served is None or label(model, selector) in served,
    )


def label(model: str, selector: Mapping[str, str]) -> str:
    return model if not selector else f"{model}:{selector['version']}"


def test_a_name_nobody_configured_is_passed_on_if_somebody_serves_it() -> None:
    table = ModelTable([])
    assert resolve(table, "m", {"m"}) == Route("m", entry="m")
    assert resolve(table, "m", set()) is None


def test_an_alias_is_rewritten() -> None:
    table = ModelTable([ModelEntry("llama", aliases=("gpt-4o",), policy="session")])
    assert resolve(table, "gpt-4o") == Route("llama", {}, True, "llama", "session")
    assert resolve(table, "llama") == Route("llama", {}, False, "llama", "session")
    assert table.names() == ["llama", "gpt-4o"]


def test_a_configured_model_nobody_serves_is_a_route_to_hold() -> None:
    table = ModelTable([ModelEntry("llama", fallback=("qwen",))])
    route = resolve(table, "llama", set())
    assert route == Route("llama", entry="llama", is_served=False)


def test_fallbacks_in_order_each_with_its_own_behind_it() -> None:
    table = ModelTable(
        [
            ModelEntry("a", fallback=("b-alias", "d")),
            ModelEntry("b", aliases=("b-alias",), fallback=("c",)),
        ]
    )
    order = []
    served = {"a", "b", "c", "d"}
    while route := resolve(table, "a", served):
        if not route.is_served:
            break
        order.append(route)
        served.remove(route.model)
    assert [(route.model, route.rewritten, route.is_fallback) for route in order] == [
        ("a", False, False),
        ("b", True, True),
        ("c", True, True),
        ("d", True, True),
    ]


CANARY = ModelEntry(
    "m", split=(Arm(90, selector={"version": "stable"}), Arm(10, selector={"version": "canary"}))
)


def test_a_draw_chooses_the_arm_of_a_stranger() -> None:
    table = ModelTable([CANARY])
    arms = [resolve(table, "m", draw=draw) for draw in (0.0, 0.89, 0.9, 0.99)]
    assert [arm.selector["version"] for arm in arms if arm] == [
        "stable", "stable", "canary", "canary",
    ]  # fmt: skip


def test_an_arm_may_be_another_model() -> None:
    table = ModelTable([ModelEntry("m", split=(Arm(1), Arm(1, "m-v2")))])
    assert resolve(table, "m", draw=0.7) == Route("m-v2", {}, True, "m")


@pytest.mark.parametrize("sticky_by", ["session", "key"])
def test_a_client_stays_on_its_arm(sticky_by: Any) -> None:
    table = ModelTable([CANARY._replace(sticky_by=sticky_by)])
    for i in range(50):
        who = {f"{sticky_by}_id": f"client-{i}"}
        routes = {str(resolve(table, "m", draw=draw, **who)) for draw in (0.0, 0.5, 0.95)}
        assert len(routes) == 1


def test_sticky_by_none_draws_each_time() -> None:
    table = ModelTable([CANARY._replace(sticky_by="none")])
    who = {"session_id": "s", "key_id": "k"}
    assert resolve(table, "m", draw=0.0, **who) != resolve(table, "m", draw=0.95, **who)


def canary_sessions(weight: float, name: str = "m") -> set[int]:
    arms = (
        Arm(100 - weight, selector={"version": "stable"}),
        Arm(weight, selector={"version": "canary"}),
    )
    table = ModelTable([ModelEntry(name, split=arms)])
    routes = ((i, resolve(table, name, session_id=f"s{i}")) for i in range(2000))
    return {i for i, route in routes if route and route.selector["version"] == "canary"}


def test_shares_are_those_of_the_weights_and_more_weight_moves_only_whom_it_must() -> None:
    ten, twenty = canary_sessions(10), canary_sessions(20)
    assert 150 <= len(ten) <= 250
    assert 340 <= len(twenty) <= 460
    assert ten < twenty


def test_splits_are_independent() -> None:
    both = canary_sessions(10, "m") & canary_sessions(10, "n")
    assert len(both) < 60  # 20 of 2,000 expected; 200 if those chosen here were chosen there


def test_clients_of_an_arm_nobody_serves_move_and_the_others_stay() -> None:
    arms = tuple(Arm(1, f"v{i}") for i in range(3))
    table = ModelTable([ModelEntry("m", split=arms)])
    moved = set()
    for i in range(300):
        who = {"session_id": f"s{i}"}
        before, after = resolve(table, "m", **who), resolve(table, "m", {"v0", "v2"}, **who)
        assert before is not None
        assert after is not None
        if before.model == "v1":
            moved.add(after.model)
        else:
            assert after == before
    assert moved == {"v0", "v2"}


def test_an_arm_of_weight_0_gets_nobody_and_rescues_nobody() -> None:
    table = ModelTable([ModelEntry("m", split=(Arm(1), Arm(0, "dark")))])
    assert resolve(table, "m", {"dark"}) == Route("m", entry="m", is_served=False)


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=6).filter(any),
    st.floats(0, 1, exclude_max=True),
)
def test_every_point_has_an_arm_with_weight(weights: list[float], draw: float) -> None:
    table = ModelTable([ModelEntry("m", split=tuple(Arm(w, f"{w}") for w in weights))])
    route = resolve(table, "m", draw=draw)
    assert route is not None
    assert float(route.model) > 0


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([ModelEntry("a"), ModelEntry("a")], "'a' is configured twice"),
        ([ModelEntry("a", aliases=("x",)), ModelEntry("b", aliases=("x",))],
         "'x' is an alias of both 'a' and 'b'"),
        ([ModelEntry("a", aliases=("b",)), ModelEntry("b")],
         "alias 'b' of 'a' is the name of a model"),
        ([ModelEntry("a", aliases=("a",))], "alias 'a' of 'a' is the name of a model"),
        ([ModelEntry("a", fallback=("a",))], "in a circle: a -> a"),
        ([ModelEntry("a", fallback=("b",)), ModelEntry("b", fallback=("c",)),
          ModelEntry("c", aliases=("x",), fallback=("x",))], "c -> c"),
        ([ModelEntry("z", fallback=("a",)), ModelEntry("a", fallback=("b",)),
          ModelEntry("b", fallback=("a",))], "a -> b -> a"),
        ([ModelEntry("a", split=(Arm(-1), Arm(2)))], "negative weight"),
        ([ModelEntry("a", split=(Arm(0),))], "weight 0"),
    ],
)  # fmt: skip
def test_contradictions_are_named(entries: list[ModelEntry], words: str) -> None:
    for order in itertools.permutations(entries):
        with pytest.raises(ValueError, match=words if order == tuple(entries) else "models: "):
            ModelTable(order)
