from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.router.core.fair_share import FairShare, Item

_numbers = itertools.count(1)


def make_item(tenant: str, tokens: int = 1, *, weight: float = 1.0, model: str = "m") -> Item[str]:
    number = next(_numbers)
    return Item(
        f"{tenant}-{model}-{number}", tenant, weight, tokens, 0, model, 0.0, 0.0, number,
        is_held=False,
    )  # fmt: skip


def anything(ticket: str) -> bool:
    return True


def take(share: FairShare[str], can_run: Callable[[str], bool] = anything) -> Item[str] | None:
    item = share.peek(can_run, set())
    if item is not None:
        share.take(item)
    return item


def tenants_taken(share: FairShare[str], times: int) -> str:
    return "".join(item.tenant for _ in range(times) if (item := take(share)))


def test_first_come_first_served_within_a_tenant() -> None:
    share: FairShare[str] = FairShare()
    items = [make_item("a", tokens) for tokens in (9, 1, 5)]
    for item in items:
        share.add(item)
    assert [take(share) for _ in range(4)] == [*items, None]


def test_a_crowd_of_one_tenant_does_not_delay_another() -> None:
    share: FairShare[str] = FairShare()
    for _ in range(6):
        share.add(make_item("a"))
    share.add(make_item("b"))
    assert tenants_taken(share, 7) == "abaaaaa"


def test_tokens_not_requests_are_shared() -> None:
    share: FairShare[str] = FairShare()
    for _ in range(3):
        share.add(make_item("a", 300))
    for _ in range(9):
        share.add(make_item("b", 100))
    assert tenants_taken(share, 12) == "abbbabbbabbb"


def test_twice_the_weight_twice_the_tokens() -> None:
    share: FairShare[str] = FairShare()
    for _ in range(9):
        share.add(make_item("a", weight=2.0))
        share.add(make_item("b"))
    assert Counter(tenants_taken(share, 12)) == {"a": 8, "b": 4}


def test_nobody_saves_up_while_idle() -> None:
    share: FairShare[str] = FairShare()
    for _ in range(100):
        share.add(make_item("a"))
    share.add(make_item("b"))
    tenants_taken(share, 60)
    for _ in range(30):
        share.add(make_item("b"))
    assert Counter(tenants_taken(share, 20)) == {"a": 10, "b": 10}


def test_an_empty_queue_forgets_who_had_what() -> None:
    share: FairShare[str] = FairShare()
    share.add(make_item("a", 1_000_000))
    take(share)
    share.add(make_item("a"))
    share.add(make_item("b"))
    assert tenants_taken(share, 2) == "ab"


def test_a_model_without_room_holds_up_no_other() -> None:
    share: FairShare[str] = FairShare()
    for model in ("full", "free", "full", "free"):
        share.add(make_item("a", model=model))
    asked = []

    def can_run(ticket: str) -> bool:
        asked.append(ticket)
        return "free" in ticket

    assert [item.model for _ in range(3) if (item := take(share, can_run))] == ["free", "free"]
    assert len(asked) == 5  # "full" is asked about once each time


def test_a_tenant_with_many_models_has_one_share() -> None:
    share: FairShare[str] = FairShare()
    for _ in range(12):
        for model in ("m", "n", "o"):
            share.add(make_item("a", model=model))
        share.add(make_item("b", model="m"))
    assert Counter(tenants_taken(share, 24)) == {"a": 12, "b": 12}


def test_who_waited_for_a_full_model_gets_one_request_ahead_and_not_the_whole_past() -> None:
    share: FairShare[str] = FairShare()
    for _ in range(50):
        share.add(make_item("a", model="full"))
    for _ in range(50):
        share.add(make_item("b", model="free"))
    for _ in range(40):
        take(share, lambda ticket: "free" in ticket)
    assert Counter(tenants_taken(share, 10)) == {"a": 6, "b": 4}


def test_taking_out_of_the_middle() -> None:
    share: FairShare[str] = FairShare()
    items = [make_item("a") for _ in range(4)]
    for item in items:
        share.add(item)
    share.remove(items[0])
    share.remove(items[2])
    assert len(share) == 2
    assert share.waiting_by_tenant() == {"a": 2}
    assert [take(share) for _ in range(3)] == [items[1], items[3], None]
    assert share.waiting_by_tenant() == {}


def test_memory_is_that_of_who_waits() -> None:
    share: FairShare[str] = FairShare()
    waiting = make_item("patient", model="m")
    share.add(waiting)
    for i in range(5000):
        item = make_item(f"t{i}")
        share.add(item)
        share.remove(item)
    assert len(share._lanes["m"].heap) < 40
    for i in range(5000):
        share.add(make_item("b", 10))
        share.add(make_item(f"t{i}", 1))
        take(share)
        take(share)
    assert len(share._counters) < 3000


REQUEST = st.tuples(st.sampled_from("abc"), st.integers(1, 500), st.sampled_from("mn"))


@given(
    weights=st.fixed_dictionaries({t: st.sampled_from([0.5, 1.0, 2.0, 5.0]) for t in "abc"}),
    sizes=st.lists(st.integers(1, 500), min_size=1, max_size=10),
    seeds=st.lists(REQUEST, max_size=30),
    num_taken=st.integers(1, 60),
)
def test_backlogged_tenants_get_tokens_by_weight_within_one_request_each(
    weights: dict[str, float],
    sizes: list[int],
    seeds: list[tuple[str, int, str]],
    num_taken: int,
) -> None:
    """The bound of Goyal et al., theorem 1, from any state and over any interval."""
    share: FairShare[str] = FairShare()
    for tenant, tokens, model in seeds:  # some past
        share.add(make_item(tenant, tokens, weight=weights[tenant], model=model))
    for _ in range(len(seeds) // 2):
        take(share)
    stream = itertools.cycle(sizes)

    def refill() -> None:
        for tenant in "abc":
            while share.waiting_by_tenant().get(tenant, 0) < 2:
                share.add(make_item(tenant, next(stream), weight=weights[tenant]))

    refill()
    given_tokens = dict.fromkeys("abc", 0.0)
    largest = max(*sizes, *(tokens for _, tokens, _ in seeds), 1)
    for _ in range(num_taken):
        item = take(share)
        assert item is not None
        given_tokens[item.tenant] += item.tokens / weights[item.tenant]
        refill()
        for one, other in itertools.combinations("abc", 2):
            bound = largest / weights[one] + largest / weights[other]
            assert abs(given_tokens[one] - given_tokens[other]) <= bound + 1e-6


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_equal_tags_go_by_arrival(order: str) -> None:
    share: FairShare[str] = FairShare()
    for tenant in order:
        share.add(make_item(tenant))
    assert tenants_taken(share, 2) == order
