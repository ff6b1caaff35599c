from __future__ import annotations

import itertools

import pytest

from shoal.engine.core.block_hash import hash_block, root_hash


def test_extra_keys_separate_whole_chains() -> None:
    roots = [
        root_hash(adapter=adapter, cache_salt=salt)
        for adapter, salt in itertools.product((None, "a", "b", "None"), repeat=2)
    ]
    assert len(set(roots)) == len(roots)


def test_a_block_depends_on_its_tokens_their_order_and_everything_before_it() -> None:
    root = root_hash()
    first = hash_block(root, [1, 2, 3, 4])
    hashes = {
        first,
        hash_block(root, [4, 3, 2, 1]),
        hash_block(first, [1, 2, 3, 4]),
        hash_block(root_hash(cache_salt="s"), [1, 2, 3, 4]),
    }
    assert len(hashes) == 4
    assert hash_block(root, [1, 2, 3, 4]) == first


@pytest.mark.parametrize("token_id", [-1, 2**32])
def test_ids_that_are_no_token_ids_are_refused(token_id: int) -> None:
    with pytest.raises(OverflowError):
        hash_block(root_hash(), [token_id])
