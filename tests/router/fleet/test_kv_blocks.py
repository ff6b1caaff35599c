"""Worker's block hashes to the router's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.router.fleet.kv_blocks import KVBlockMap
from shoal.router.fleet.kv_wire import AllBlocksCleared, BlockRemoved, BlockStored
from shoal.router.prefix_hash import exact_root, token_block_hash, token_hashes

ROOT = exact_root(None, None)
TOKENS = list(range(100, 112))
H = token_hashes(TOKENS, 4, ROOT)


def stored(
    hashes: list[Any], tokens: list[int] = TOKENS, parent: Any = None, **fields: Any
) -> BlockStored:
    return BlockStored(
        block_hashes=hashes, parent_block_hash=parent, token_ids=tokens, block_size=4, **fields
    )


def removed(*hashes: Any, **fields: Any) -> BlockRemoved:
    return BlockRemoved(block_hashes=list(hashes), **fields)


def test_hashes_are_those_that_a_prompt_is_looked_up_by() -> None:
    blocks = KVBlockMap("e")
    blocks.apply(stored([1, 2, 3]))
    changes = blocks.take()
    assert changes is not None
    assert (changes.endpoint_id, changes.stored, changes.removed) == ("e", list(H), [])
    assert not changes.cleared
    assert blocks.block_size == 4
    assert blocks.take() is None


def test_a_fast_path_makes_the_same_hashes() -> None:
    parent = ROOT
    for start, expected in zip(range(0, 12, 4), H, strict=True):
        parent = token_block_hash(parent, TOKENS[start : start + 4])
        assert parent == expected


def test_children_follow_their_parents() -> None:
    blocks = KVBlockMap("e")
    blocks.apply(stored([1], TOKENS[:4]))
    blocks.apply(stored([b"2", 3], TOKENS[4:], parent=1))
    assert blocks.snapshot().stored == list(H)


def test_a_child_without_a_known_parent_is_left_out_and_counted() -> None:
    blocks = KVBlockMap("e")
    blocks.apply(stored([2], TOKENS[4:8], parent=1))
    assert blocks.take() is None
    assert blocks.num_missing_parents == 1


def test_removed_blocks_are_taken_back() -> None:
    blocks = KVBlockMap("e")
    blocks.apply(stored([1, 2, 3]))
    blocks.take()
    blocks.apply(removed(3, 99))
    changes = blocks.take()
    assert changes is not None
    assert (changes.stored, changes.removed) == ([], [H[2]])
    assert blocks.snapshot().stored == list(H[:2])


def test_what_comes_and_goes_at_once_is_not_told() -> None:
    blocks = KVBlockMap("e")
    blocks.apply(stored([1, 2, 3]))
    blocks.apply(removed(3))
    changes = blocks.take()
    assert changes is not None
    assert (changes.stored, changes.removed) == (list(H[:2]), [])
    blocks.apply(removed(2))
    blocks.apply(stored([2], TOKENS[4:8], parent=1))
    assert blocks.take() is None


def test_clearing_comes_before_what_follows_it() -> None:
    blocks = KVBlockMap("e")
    blocks.apply(stored([1, 2, 3]))
    blocks.apply(AllBlocksCleared())
    blocks.apply(stored([1], TOKENS[:4]))
    changes = blocks.take()
    assert changes is not None
    assert (changes.cleared, changes.stored, changes.removed) == (True, [H[0]], [])


@pytest.mark.parametrize("fields", [{"medium": "CPU"}, {"group_idx": 1}])
def test_other_tiers_and_groups_are_not_ours(fields: dict[str, Any]) -> None:
    blocks = KVBlockMap("e")
    blocks.apply(stored([1, 2, 3], **fields))
    assert blocks.take() is None
    blocks.apply(stored([1, 2, 3], medium="GPU", group_idx=0))
    blocks.apply(removed(1, **fields))
    assert len(blocks) == 3


def test_adapters_and_salts_have_caches_of_their_own() -> None:
    blocks = KVBlockMap("e")
    blocks.apply(stored([1], TOKENS[:4], lora_name="sql", extra_keys=[["sql"]]))
    blocks.apply(stored([2], TOKENS[:4], extra_keys=[["salt"]]))
    blocks.apply(stored([3], TOKENS[:4], lora_name="sql", extra_keys=[["sql", "salt"]]))
    blocks.apply(stored([4], TOKENS[:4], extra_keys=[None]))
    assert blocks.snapshot().stored == [
        token_block_hash(exact_root("any", adapter, salt), TOKENS[:4])
        for adapter, salt in (("sql", None), (None, "salt"), ("sql", "salt"), (None, None))
    ]


@pytest.mark.parametrize("key", [["image-hash", 0], "image-hash"])
def test_images_are_no_text(key: Any) -> None:
    """Placeholder tokens are the same for every picture."""
    blocks = KVBlockMap("e")
    blocks.apply(stored([1, 2, 3], extra_keys=[None, [key], None]))
    blocks.apply(stored([5, 6], TOKENS[4:], parent=1, extra_keys=[[["other", 0]], None]))
    names = blocks.snapshot().stored
    assert names[0] == H[0]
    assert len(set(names)) == 5
    assert not set(names[1:]) & set(H)


@pytest.mark.parametrize(
    "event",
    [
        stored([1, 2, 3, 4]),
        BlockStored(block_hashes=[1], token_ids=[1], block_size=0),
        stored([1], [-1, 0, 0, 0]),
        stored([1], [2**32, 0, 0, 0]),
    ],
)
def test_what_contradicts_itself_is_counted(event: BlockStored) -> None:
    blocks = KVBlockMap("e")
    blocks.apply(event)
    assert blocks.take() is None
    assert blocks.num_malformed == 1


def test_memory_is_bounded_and_what_is_forgotten_is_taken_back() -> None:
    blocks = KVBlockMap("e", max_blocks=2)
    blocks.apply(stored([1, 2], TOKENS[:8]))
    blocks.take()
    blocks.apply(stored([3], TOKENS[8:], parent=2))
    changes = blocks.take()
    assert changes is not None
    assert (changes.stored, changes.removed) == ([H[2]], [H[0]])
    assert (len(blocks), blocks.num_forgotten) == (2, 1)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("store"), st.integers(0, 7), st.booleans()),
        st.tuples(st.just("remove"), st.integers(0, 15), st.booleans()),
        st.tuples(st.just("clear"), st.just(0), st.booleans()),
    ),
    max_size=40,
)


@given(OPERATIONS)
def test_what_was_told_adds_up_to_what_is_there(operations: list[tuple[str, int, bool]]) -> None:
    """Two worker hashes (n and n + 8) may stand for the same tokens: a salt that is not told."""
    blocks = KVBlockMap("e", max_blocks=6)
    told: set[int] = set()
    for what, number, then_take in operations:
        if what == "store":
            for name in (number, number + 8):
                blocks.apply(stored([name], [number] * 4))
        elif what == "remove":
            blocks.apply(removed(number))
        else:
            blocks.apply(AllBlocksCleared())
        if then_take and (changes := blocks.take()) is not None:
            assert not set(changes.stored) & set(changes.removed)
            told = (set() if changes.cleared else told) - set(changes.removed)
            assert not told & set(changes.stored)
            told |= set(changes.stored)
            assert told == set(blocks.snapshot().stored)
