"""Who is in the fleet."""

from __future__ import annotations

from typing import Any

import pytest

from shoal.router.fleet.roster import GRACE_S, Found, Roster
from shoal.router.settings.discovery import StaticEndpoint

from .builders import listed

A, B = "http://a:1", "http://b:1"


def ids(roster: Roster) -> list[str]:
    return list(roster.members)


def draining(roster: Roster) -> set[str]:
    return {name for name, member in roster.members.items() if member.is_draining}


def test_what_is_listed_is_there() -> None:
    roster = Roster()
    changes = roster.apply({"static": listed(A, B)}, 0.0)
    assert [member.endpoint_id for member in changes.added] == [A, B]
    assert roster.apply({"static": listed(A, B)}, 1.0).is_empty


def test_a_name_is_the_id() -> None:
    roster = Roster()
    roster.apply({"static": listed(A, name="one")}, 0.0)
    assert ids(roster) == ["one"]


def test_one_url_is_one_endpoint_and_the_first_source_wins() -> None:
    roster = Roster()
    listings = {"static": listed(A, weight=2.0), "dns": listed(A, B)}
    changes = roster.apply(listings, 0.0)
    assert ids(roster) == [A, B]
    assert roster.members[A].endpoint.weight == 2.0
    assert changes.duplicates == ((A, "static", "dns"),)
    assert roster.apply(listings, 1.0).duplicates == ()


def test_the_second_source_takes_over_what_the_first_drops() -> None:
    roster = Roster()
    roster.apply({"static": listed(A), "dns": listed(A)}, 0.0)
    changes = roster.apply({"static": (), "dns": listed(A)}, 1.0)
    assert [member.source for member in changes.changed] == ["dns"]
    assert not draining(roster)


def test_twice_in_one_list_is_once() -> None:
    roster = Roster()
    both = listed(A, name="one") + listed(A, name="two")
    changes = roster.apply({"static": both}, 0.0)
    assert ids(roster) == ["one"]
    assert changes.duplicates == ((A, "static", "static"),)


@pytest.mark.parametrize(
    "fields", [{"weight": 3.0}, {"labels": {"zone": "a"}}, {"models": ("m",)}, {"engine": "vllm"}]
)
def test_what_is_said_of_it_may_change(fields: dict[str, Any]) -> None:
    roster = Roster()
    roster.apply({"static": listed(A)}, 0.0)
    changes = roster.apply({"static": listed(A, **fields)}, 1.0)
    assert [member.endpoint_id for member in changes.changed] == [A]
    assert roster.members[A].endpoint == StaticEndpoint(url=A, **fields)


def test_who_is_no_longer_listed_leaves_when_idle() -> None:
    roster = Roster()
    roster.apply({"static": listed(A)}, 0.0)
    roster.apply({"static": ()}, 10.0)
    assert draining(roster) == {A}
    assert roster.gone({A: 1}, 10.0 + GRACE_S, timeout_s=30.0) == []
    assert roster.gone({}, 10.0, timeout_s=30.0) == []  # somebody may just have chosen it
    assert [member.endpoint_id for member in roster.gone({}, 10.0 + GRACE_S, timeout_s=30.0)] == [A]
    assert ids(roster) == []


def test_who_never_finishes_leaves_in_the_end() -> None:
    roster = Roster()
    roster.apply({"static": listed(A)}, 0.0)
    roster.apply({"static": ()}, 10.0)
    assert roster.gone({A: 1}, 39.9, timeout_s=30.0) == []
    assert len(roster.gone({A: 1}, 40.0, timeout_s=30.0)) == 1


def test_who_is_listed_again_stays() -> None:
    roster = Roster()
    roster.apply({"static": listed(A)}, 0.0)
    roster.apply({"static": ()}, 1.0)
    changes = roster.apply({"static": listed(A)}, 2.0)
    assert [member.endpoint_id for member in changes.changed] == [A]
    assert not draining(roster)
    assert roster.gone({}, 100.0, timeout_s=30.0) == []


def test_a_terminating_endpoint_drains_while_listed() -> None:
    roster = Roster()
    roster.apply({"k8s": listed(A)}, 0.0)
    roster.apply({"k8s": (Found(StaticEndpoint(url=A), is_terminating=True),)}, 1.0)
    assert draining(roster) == {A}
    assert roster.gone({}, 100.0, timeout_s=30.0) == []


def test_a_drained_endpoint_stays_listed_until_it_is_undrained() -> None:
    roster = Roster()
    roster.apply({"static": listed(A)}, 0.0)
    assert roster.drain(A, is_drained=True)
    roster.apply({"static": listed(A, weight=2.0)}, 1.0)
    assert draining(roster) == {A}
    assert roster.gone({}, 100.0, timeout_s=30.0) == []
    assert roster.drain(A, is_drained=False)
    assert not draining(roster)
    assert not roster.drain("nobody", is_drained=True)


def test_a_removed_endpoint_does_not_come_back_while_it_is_listed() -> None:
    roster = Roster()
    roster.apply({"dns": listed(A)}, 0.0)
    assert roster.remove(A, 1.0) is not None
    assert roster.remove("nobody", 1.0) is None
    assert roster.apply({"dns": listed(A)}, 2.0).is_empty
    assert len(roster.gone({}, 3.0, timeout_s=30.0)) == 1
    assert roster.apply({"dns": listed(A)}, 4.0).is_empty
    assert ids(roster) == []
    roster.apply({"dns": ()}, 5.0)
    assert len(roster.apply({"dns": listed(A)}, 6.0).added) == 1


def test_a_removed_endpoint_is_welcome_again() -> None:
    roster = Roster()
    roster.apply({"dns": listed(A)}, 0.0)
    roster.remove(A, 1.0)
    roster.welcome(A)
    roster.apply({"dns": listed(A)}, 2.0)
    assert not draining(roster)


def test_a_pod_of_the_same_name_elsewhere_is_another_endpoint() -> None:
    roster = Roster()
    roster.apply({"k8s": listed(A, name="pod-0")}, 0.0)
    roster.apply({"k8s": listed(B, name="pod-0")}, 1.0)
    assert ids(roster) == ["pod-0", B]
    assert draining(roster) == {"pod-0"}
    roster.gone({}, 10.0, timeout_s=30.0)
    assert ids(roster) == [B]


def test_another_name_at_the_same_place_is_another_endpoint() -> None:
    roster = Roster()
    for now, name in enumerate((None, "one", None, "two", "one")):
        roster.apply({"static": listed(A, name=name)}, float(now))
        staying = [m.endpoint.name for m in roster.members.values() if not m.is_draining]
        assert staying == [name]
        assert len(set(roster.members)) == len(roster.members)
