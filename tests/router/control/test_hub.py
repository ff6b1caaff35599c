from __future__ import annotations

from shoal.router.control.hub import CONSUMED_WINDOW_S, MAX_RECENT_HASHES, Hub
from shoal.router.messages import PeerDelta


def hub_of(*processes: int) -> Hub:
    hub = Hub()
    for process in processes:
        hub.joined(process, 0.0)
    return hub


def test_counts_of_processes_add_up_and_later_ones_replace_earlier_ones() -> None:
    hub = hub_of(1, 2)
    hub.take(1, PeerDelta(in_flight={"a": 3, "b": 1}, held={"m": 2}), 0.0)
    hub.take(2, PeerDelta(in_flight={"a": 2}, held={"m": 1, "n": 1}), 0.0)
    assert hub.in_flight() == {"a": 5, "b": 1}
    assert hub.held() == {"m": 3, "n": 1}
    hub.take(1, PeerDelta(in_flight={"a": 0}), 0.0)
    assert hub.in_flight() == {"a": 2, "b": 1}  # b was left out: as it was
    assert hub.held() == {"m": 1, "n": 1}  # all held models are in each delta


def test_what_a_process_had_goes_with_it() -> None:
    hub = hub_of(1, 2)
    hub.take(
        1,
        PeerDelta(in_flight={"a": 3}, prefill_tokens={"b": 9}, parallel={"k": 2}, held={"m": 2}),
        0.0,
    )
    farewell = hub.left(1)
    assert farewell == PeerDelta(
        process=1, in_flight={"a": 0}, prefill_tokens={"b": 0}, parallel={"k": 0}
    )
    assert (hub.in_flight(), hub.held()) == ({}, {})
    hub.take(1, PeerDelta(in_flight={"a": 3}), 0.0)  # late words
    assert hub.in_flight() == {}
    assert hub.left(1) is None
    assert hub.left(2) is None  # it had nothing: nothing to tell


def test_a_new_process_hears_what_the_others_have() -> None:
    hub = hub_of(1, 2)
    hub.take(1, PeerDelta(in_flight={"a": 3}, prefill_tokens={"a": 100}, parallel={"k": 1}), 0.0)
    assert hub.joined(3, 0.0) == [
        PeerDelta(process=1, in_flight={"a": 3}, prefill_tokens={"a": 100}, parallel={"k": 1}),
        PeerDelta(process=2),
    ]


def test_a_new_process_hears_of_recent_prefixes_and_no_more_than_the_bound() -> None:
    hub = hub_of(1)
    hashes = list(range(MAX_RECENT_HASHES // 2))
    for endpoint in "abc":
        hub.take(1, PeerDelta(routed=[(endpoint, hashes)]), 0.0)
    past = hub.joined(2, 0.0)[-1]
    assert past.process == -1
    assert [endpoint for endpoint, _ in past.routed] == ["b", "c"]


def test_requests_without_hashes_are_bounded_too() -> None:
    hub = hub_of(1)
    hub.take(1, PeerDelta(routed=[("a", [])] * (MAX_RECENT_HASHES + 5)), 0.0)
    assert len(hub.joined(2, 0.0)[-1].routed) == MAX_RECENT_HASHES


def test_consumption_fades_within_a_minute() -> None:
    hub = hub_of(1)
    hub.take(1, PeerDelta(consumed={"k": (10, 1000)}), 0.0)
    hub.take(1, PeerDelta(consumed={"k": (2, 200), "l": (4, 0)}), 0.5)
    assert hub.joined(2, 0.5)[-1].consumed == {"k": (12, 1190), "l": (4, 0)}
    half = hub.joined(3, CONSUMED_WINDOW_S / 2)[-1].consumed
    assert half == {"k": (6, 600), "l": (2, 0)}
    later = hub.joined(4, CONSUMED_WINDOW_S)
    assert all(not delta.consumed for delta in later)
