"""Gaps, replays and restarts of a worker's events."""

from __future__ import annotations

import msgspec
import pytest

from shoal.router.fleet.kv_feed import MAX_HELD, REPLAY_TIMEOUT_S, KVFeed
from shoal.router.prefix_hash import exact_root, token_block_hash

ROOT = exact_root(None, None)


def batch(number: int, ts: float | None = None) -> bytes:
    """One that stores a block of its own: the token `number`."""
    event = {
        "type": "BlockStored", "block_hashes": [number], "parent_block_hash": None,
        "token_ids": [number], "block_size": 1, "lora_id": None, "medium": "GPU",
        "lora_name": None,
    }  # fmt: skip
    return msgspec.msgpack.encode([float(number if ts is None else ts), [event]])


def names(*numbers: int) -> list[int]:
    return [token_block_hash(ROOT, [number]) for number in numbers]


def known(feed: KVFeed) -> list[int]:
    return feed.blocks.snapshot().stored


def subscribed(*, can_replay: bool) -> KVFeed:
    """Past its beginning: nothing was published before."""
    feed = KVFeed("e", can_replay=can_replay)
    feed.begin(0.0)
    if can_replay:
        assert feed.take_replay_request() == 0
        feed.replay_ended(0.0)
    return feed


@pytest.mark.parametrize("can_replay", [True, False])
def test_batches_in_turn(can_replay: bool) -> None:
    feed = subscribed(can_replay=can_replay)
    for number in range(3):
        feed.published(number, batch(number), 0.0)
    assert known(feed) == names(0, 1, 2)
    assert feed.take_replay_request() is None
    assert feed.num_gaps == 0


def test_a_new_subscription_learns_what_was_before() -> None:
    feed = KVFeed("e", can_replay=True)
    feed.begin(0.0)
    assert feed.take_replay_request() == 0
    feed.published(2, batch(2), 0.0)  # held: the replay comes first
    assert known(feed) == []
    for number in (0, 1, 2):
        feed.replayed(number, batch(number), 0.0)
    feed.replay_ended(0.0)
    assert known(feed) == names(0, 1, 2)
    feed.published(3, batch(3), 0.0)
    assert known(feed) == names(0, 1, 2, 3)


def test_a_gap_is_filled() -> None:
    feed = subscribed(can_replay=True)
    feed.published(0, batch(0), 0.0)
    feed.published(3, batch(3), 0.0)
    assert feed.take_replay_request() == 1
    assert feed.take_replay_request() is None
    feed.published(4, batch(4), 0.0)
    for number in (1, 2, 3):
        feed.replayed(number, batch(number), 0.0)
    feed.replay_ended(0.0)
    assert known(feed) == names(0, 1, 2, 3, 4)
    assert (feed.num_gaps, feed.num_unfilled) == (1, 0)


def test_a_gap_that_the_publisher_has_forgotten_voids_the_rest() -> None:
    feed = subscribed(can_replay=True)
    feed.published(0, batch(0), 0.0)
    feed.take()
    feed.published(9, batch(9), 0.0)
    feed.replayed(7, batch(7), 0.0)
    feed.replayed(8, batch(8), 0.0)
    feed.replayed(9, batch(9), 0.0)
    feed.replay_ended(0.0)
    changes = feed.take()
    assert changes is not None
    assert (changes.cleared, changes.stored) == (True, names(7, 8, 9))
    assert feed.num_unfilled == 1


def test_a_replay_that_brings_nothing_voids_the_rest() -> None:
    feed = subscribed(can_replay=True)
    feed.published(0, batch(0), 0.0)
    feed.published(9, batch(9), 0.0)
    feed.replay_ended(0.0)
    assert known(feed) == names(9)
    assert feed.num_unfilled == 1


def test_a_replay_that_never_ends_is_given_up() -> None:
    feed = subscribed(can_replay=True)
    feed.published(0, batch(0), 0.0)
    feed.published(5, batch(5), 10.0)
    feed.replayed(1, batch(1), 12.0)
    feed.tick(12.0 + REPLAY_TIMEOUT_S - 0.1)
    assert known(feed) == names(0, 1)
    feed.tick(12.0 + REPLAY_TIMEOUT_S)
    assert known(feed) == names(5)
    feed.published(6, batch(6), 20.0)
    assert known(feed) == names(5, 6)


def test_without_a_replay_a_gap_voids_the_rest() -> None:
    feed = subscribed(can_replay=False)
    feed.published(5, batch(5), 0.0)  # joined late: nothing known, nothing lost
    assert feed.num_unfilled == 0
    feed.published(7, batch(7), 0.0)
    assert known(feed) == names(7)
    assert feed.num_unfilled == 1


def test_late_copies_are_nothing_new() -> None:
    feed = subscribed(can_replay=True)
    for number in (0, 1, 2, 1, 0):
        feed.published(number, batch(number), 0.0)
    assert known(feed) == names(0, 1, 2)
    assert feed.num_restarts == 0


@pytest.mark.parametrize("can_replay", [True, False])
def test_numbers_that_go_back_are_a_new_process(can_replay: bool) -> None:
    feed = subscribed(can_replay=can_replay)
    for number in range(3):
        feed.published(number, batch(number), 0.0)
    feed.published(0, batch(50, ts=1000.0), 0.0)
    if can_replay:
        assert feed.take_replay_request() == 0
        feed.replayed(0, batch(50, ts=1000.0), 0.0)
        feed.replay_ended(0.0)
    feed.published(1, batch(51, ts=1001.0), 0.0)
    assert known(feed) == names(50, 51)
    assert (feed.num_restarts, feed.num_unfilled) == (1, 0)


def test_a_new_process_seen_only_after_its_first_batches() -> None:
    """The replay asked for from the old number brings nothing: 4 is not reached there yet."""
    feed = subscribed(can_replay=True)
    for number in range(4):
        feed.published(number, batch(number), 0.0)
    feed.published(2, batch(60, ts=1000.0), 0.0)
    assert feed.take_replay_request() == 0
    feed.published(3, batch(61, ts=1001.0), 0.0)
    for number in (0, 1, 2):
        feed.replayed(number, batch(58 + number, ts=998.0 + number), 0.0)
    feed.replay_ended(0.0)
    assert known(feed) == names(58, 59, 60, 61)


def test_a_restart_while_a_replay_runs() -> None:
    feed = subscribed(can_replay=True)
    feed.published(0, batch(0), 0.0)
    feed.published(5, batch(5), 0.0)
    assert feed.take_replay_request() == 1
    feed.published(0, batch(70, ts=1000.0), 0.0)
    feed.published(1, batch(71, ts=1001.0), 0.0)
    feed.replay_ended(0.0)
    assert feed.take_replay_request() == 0
    feed.replayed(0, batch(70, ts=1000.0), 0.0)
    feed.replay_ended(0.0)
    assert known(feed) == names(70, 71)


def test_others_may_notice_the_restart_first_or_last() -> None:
    feed = subscribed(can_replay=True)
    feed.published(0, batch(0), 0.0)
    feed.process_restarted(1.0)
    assert known(feed) == []
    assert feed.take_replay_request() == 0
    feed.replayed(0, batch(80, ts=1000.0), 1.0)
    feed.replay_ended(1.0)
    feed.published(0, batch(90, ts=2000.0), 2.0)  # a second restart, seen by its numbers
    feed.replay_ended(2.0)
    feed.process_restarted(3.0)  # ... of which a scrape tells too
    assert known(feed) == names(90)
    feed.process_restarted(4.0)
    assert known(feed) == []


def test_what_cannot_be_decoded_takes_its_turn() -> None:
    feed = subscribed(can_replay=True)
    feed.published(0, batch(0), 0.0)
    feed.published(1, b"\xc1", 0.0)
    feed.published(2, batch(2), 0.0)
    assert known(feed) == names(0, 2)
    assert feed.num_undecodable == 1


def test_memory_is_bounded_while_a_replay_runs() -> None:
    feed = subscribed(can_replay=True)
    feed.published(0, batch(0), 0.0)
    for number in range(2, MAX_HELD + 4):
        feed.published(number, batch(number), 0.0)
    feed.replayed(1, batch(1), 0.0)
    feed.replay_ended(0.0)
    # 2 and 3 were dropped, so what came before 4 is void.
    assert known(feed)[0] == names(4)[0]
    assert len(known(feed)) == MAX_HELD


def with_three(*, can_replay: bool = True) -> KVFeed:
    feed = subscribed(can_replay=can_replay)
    for number in range(3):
        feed.published(number, batch(number), 0.0)
    return feed


def test_a_connection_that_is_back_to_the_same_process() -> None:
    feed = with_three()
    feed.reconnected(1.0)
    assert feed.take_replay_request() == 2
    feed.published(4, batch(4), 1.0)
    for number in (2, 3, 4):
        feed.replayed(number, batch(number), 1.0)
    feed.replay_ended(1.0)
    assert known(feed) == names(0, 1, 2, 3, 4)
    assert (feed.num_restarts, feed.num_unfilled) == (0, 0)


@pytest.mark.parametrize("has_published", [0, 2, 3, 7])
def test_a_connection_that_is_back_to_another_process(has_published: int) -> None:
    """A core that restarts alone: its server is the same, its cache is empty."""
    feed = with_three()
    feed.reconnected(1.0)
    first = feed.take_replay_request()
    assert first == 2
    new = [batch(10 + number, ts=100.0 + number) for number in range(has_published)]
    for number in range(first, has_published):
        feed.replayed(number, new[number], 1.0)
        if feed.take_replay_request() == 0:
            break
    else:
        feed.replay_ended(1.0)
        assert feed.take_replay_request() == 0
    assert known(feed) == []
    for number in range(has_published):
        feed.replayed(number, new[number], 1.0)
    feed.replay_ended(1.0)
    assert known(feed) == names(*(10 + number for number in range(has_published)))
    assert feed.num_restarts == 1


def test_a_connection_that_is_back_without_a_replay_proves_nothing() -> None:
    feed = with_three(can_replay=False)
    feed.reconnected(1.0)
    assert known(feed) == []


def test_a_connection_that_is_back_and_answers_nothing() -> None:
    feed = with_three()
    feed.reconnected(1.0)
    for number in (1, 2):
        assert feed.take_replay_request() is not None
        feed.tick(1.0 + number * REPLAY_TIMEOUT_S)
    assert known(feed) == []
    feed.published(3, batch(3), 20.0)
    assert feed.take_replay_request() == 0
