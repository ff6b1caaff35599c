from __future__ import annotations

from collections import Counter

import pytest

from shoal.engine.core.block_pool import BlockPool


def key(name: str) -> tuple[int, bytes]:
    return (0, name.encode())


def test_allocate_hands_out_every_block_but_the_null_block_once() -> None:
    pool = BlockPool(5)
    assert sorted(pool.allocate(4) or []) == [1, 2, 3, 4]
    assert pool.allocate(1) is None
    assert pool.usage == 1.0


def test_a_failed_allocation_changes_nothing() -> None:
    pool = BlockPool(4)
    assert pool.allocate(4) is None
    assert pool.num_free == 3
    pool.check_integrity(Counter())


def test_a_freed_published_block_is_found_until_it_is_evicted() -> None:
    pool = BlockPool(3)
    (a, b) = pool.allocate(2) or []
    pool.publish(a, key("a"))
    pool.free([b, a])
    assert pool.find(key("a")) == a
    assert pool.num_cached == 1
    assert pool.allocate(1) == [b]  # empty blocks go before cached ones
    assert pool.find(key("a")) == a
    assert pool.allocate(1) == [a]
    assert pool.find(key("a")) is None


def test_eviction_is_least_recently_used_first() -> None:
    pool = BlockPool(4)
    blocks = pool.allocate(3) or []
    for block_id, name in zip(blocks, "abc", strict=True):
        pool.publish(block_id, key(name))
    pool.free(blocks)
    pool.touch([blocks[0]])  # a is used again ...
    pool.free([blocks[0]])  # ... and so becomes the most recent
    assert pool.allocate(2) == [blocks[1], blocks[2]]
    assert pool.find(key("a")) == blocks[0]


def test_a_shared_block_is_free_only_after_its_last_holder() -> None:
    pool = BlockPool(3)
    (a,) = pool.allocate(1) or []
    pool.publish(a, key("a"))
    pool.touch([a, 0])
    pool.free([a])
    assert pool.num_free == 1
    pool.check_integrity(Counter({a: 1}))
    pool.free([a])
    assert pool.num_free == 2


def test_the_first_holder_of_a_content_stays_the_one_found() -> None:
    pool = BlockPool(3)
    a, b = pool.allocate(2) or []
    pool.publish(a, key("same"))
    pool.publish(b, key("same"))
    assert pool.find(key("same")) == a
    pool.free([b])
    assert pool.allocate(1) == [b]
    assert pool.find(key("same")) == a
    pool.check_integrity(Counter({a: 1, b: 1}))


def test_forget_cached_keeps_the_blocks_and_drops_what_they_hold() -> None:
    pool = BlockPool(3)
    (a,) = pool.allocate(1) or []
    pool.publish(a, key("a"))
    pool.forget_cached()
    assert pool.find(key("a")) is None
    pool.check_integrity(Counter({a: 1}))


def test_check_integrity_notices_a_leak() -> None:
    pool = BlockPool(3)
    pool.allocate(1)
    with pytest.raises(AssertionError, match="ref_cnt"):
        pool.check_integrity(Counter())
