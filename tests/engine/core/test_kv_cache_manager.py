from __future__ import annotations

from collections.abc import Sequence

import pytest

from shoal.engine.core.config import CacheConfig, KVCacheGroup
from shoal.engine.core.kv_cache_manager import KVCacheManager
from shoal.engine.core.request import Request
from tests.builders import make_request

PROMPT = list(range(20))  # 5 blocks of 4


def make_manager(
    num_blocks: int = 41, *, windows: Sequence[int | None] = (None,), chunk: int = 100
) -> KVCacheManager:
    groups = tuple(KVCacheGroup(sliding_window=window) for window in windows)
    return KVCacheManager(
        CacheConfig(num_blocks=num_blocks, block_size=4, groups=groups),
        max_num_batched_tokens=chunk,
    )


def compute(manager: KVCacheManager, request: Request, num_tokens: int) -> None:
    """Schedule and run `num_tokens` more tokens of a request."""
    if not request.block_ids:
        manager.admit(request, manager.get_computed_blocks(request))
    assert manager.allocate_slots(request, num_tokens) is not None
    manager.publish(request, request.num_computed_tokens + num_tokens)
    request.num_computed_tokens += num_tokens


def hit(manager: KVCacheManager, request: Request) -> int:
    return manager.get_computed_blocks(request).num_tokens


def test_a_finished_prompt_is_found_by_the_next_but_for_its_last_token() -> None:
    manager = make_manager()
    first = make_request(prompt=PROMPT)
    compute(manager, first, 20)
    manager.free(first)
    assert hit(manager, make_request(prompt=PROMPT)) == 16  # the 20th token is computed anew
    assert hit(manager, make_request(prompt=[*PROMPT, 99])) == 20
    assert hit(manager, make_request(prompt=[*PROMPT[:9], 99, 99, 99, 99])) == 8
    assert hit(manager, make_request(prompt=[99, *PROMPT])) == 0


def test_running_requests_share_blocks_and_each_frees_its_own_reference() -> None:
    manager = make_manager()
    first, second = make_request(prompt=PROMPT), make_request(prompt=PROMPT)
    compute(manager, first, 20)
    compute(manager, second, 0)
    assert second.num_computed_tokens == 16
    assert second.block_ids[0] == first.block_ids[0][:4]
    manager.free(first)
    manager.check_integrity([second])
    manager.free(second)
    manager.check_integrity([])


@pytest.mark.parametrize("kwargs", [{"cache_salt": "tenant"}, {"adapter": "lora-1"}])
def test_salt_and_adapter_keep_prefixes_apart(kwargs: dict[str, str]) -> None:
    manager = make_manager()
    compute(manager, make_request(prompt=PROMPT), 20)
    assert hit(manager, make_request(prompt=PROMPT, **kwargs)) == 0


def test_prompt_logprobs_need_every_position_so_they_find_nothing() -> None:
    manager = make_manager()
    compute(manager, make_request(prompt=PROMPT), 20)
    assert hit(manager, make_request(prompt=PROMPT, prompt_logprobs=1)) == 0


def test_outputs_become_findable_when_the_request_stops_running() -> None:
    manager = make_manager()
    request = make_request(prompt=PROMPT)
    compute(manager, request, 20)
    request.token_ids += [7, 7, 7, 7, 7]
    assert manager.allocate_next_blocks([request]) is not None
    request.num_computed_tokens += 4
    follow_up = make_request(prompt=[*PROMPT, 7, 7, 7, 7, 5])
    assert hit(manager, follow_up) == 20
    manager.free(request)
    assert hit(manager, follow_up) == 24


def test_a_full_pool_allocates_nothing() -> None:
    manager = make_manager(num_blocks=4)
    request = make_request(prompt=PROMPT)
    manager.admit(request, manager.get_computed_blocks(request))
    assert manager.allocate_slots(request, 13) is None
    assert request.num_slots == 0
    assert manager.pool.num_free == 3
    assert manager.allocate_slots(request, 12) is not None


def test_num_lacking_blocks_does_not_count_a_cached_block_twice() -> None:
    manager = make_manager(num_blocks=6)  # 5 usable
    request = make_request(prompt=PROMPT)
    compute(manager, request, 20)
    manager.free(request)
    # 4 of the 5 free blocks are its own prefix, the fifth takes its last tokens: it fits just so.
    again = make_request(prompt=PROMPT)
    computed = manager.get_computed_blocks(again)
    assert manager.num_lacking_blocks(again, computed, reserve=0) == 0
    assert manager.num_lacking_blocks(again, computed, reserve=1) == 1


def test_a_window_frees_what_has_left_it_and_keeps_the_table_length() -> None:
    manager = make_manager(windows=(8,))
    request = make_request(prompt=PROMPT)
    compute(manager, request, 10)
    compute(manager, request, 10)  # position 10 reads 3.., so nothing can go yet
    assert request.block_ids[0].count(0) == 0
    request.token_ids.append(99)
    compute(manager, request, 1)  # position 20 reads 13..20: blocks 0, 1, 2 have left
    assert request.block_ids[0][:3] == [0, 0, 0]
    assert 0 not in request.block_ids[0][3:]
    assert manager.num_held(request) == 3
    manager.check_integrity([request])
    manager.free(request)
    manager.check_integrity([])


def test_a_window_hit_needs_only_the_blocks_inside_the_window() -> None:
    manager = make_manager(num_blocks=7, windows=(8,))  # 6 usable
    request = make_request(prompt=[*PROMPT, 1, 2, 3, 4])
    compute(manager, request, 12)
    compute(manager, request, 12)
    manager.free(request)
    other = make_request(4)
    compute(manager, other, 4)  # evicts the oldest block, which is outside the window
    computed = manager.get_computed_blocks(make_request(prompt=[*PROMPT, 1, 2, 3, 4, 5]))
    assert computed.num_tokens == 24
    assert computed.block_ids[0][:4] == [0, 0, 0, 0]
    assert 0 not in computed.block_ids[0][4:]


def test_groups_grow_together_and_hit_only_where_all_of_them_do() -> None:
    manager = make_manager(num_blocks=21, windows=(None, 4))
    request = make_request(prompt=PROMPT)
    compute(manager, request, 8)
    compute(manager, request, 12)
    assert [len(table) for table in request.block_ids] == [5, 5]
    assert request.block_ids[1][0] == 0
    assert not set(request.block_ids[0]) & set(request.block_ids[1])
    manager.free(request)
    # The window group lost block 0 only; a prefix of 16 tokens needs its block 3 alone.
    computed = manager.get_computed_blocks(make_request(prompt=PROMPT))
    assert computed.num_tokens == 16
    assert computed.block_ids[1][:3] == [0, 0, 0]
    # A prefix of one block would need the window group's block 0, which is gone.
    assert hit(manager, make_request(prompt=[*PROMPT[:4], 99, 98])) in (0, 4)


@pytest.mark.parametrize(
    ("windows", "num_tokens", "expected"),
    [((None,), 100, 25), ((8,), 8, 2), ((8,), 1000, 28), ((None, 8), 1000, 278)],
)
def test_peak_blocks(windows: tuple[int | None, ...], num_tokens: int, expected: int) -> None:
    # window 8, chunk 100: ceil(107 / 4) + 1 = 28
    assert make_manager(windows=windows).peak_blocks(num_tokens) == expected


def test_caching_can_be_switched_off() -> None:
    config = CacheConfig(num_blocks=41, block_size=4, enable_prefix_caching=False)
    manager = KVCacheManager(config, max_num_batched_tokens=100)
    request = make_request(prompt=PROMPT)
    compute(manager, request, 20)
    assert hit(manager, make_request(prompt=PROMPT)) == 0
    assert request.block_hashes == []
