"""Events mirror the cache: whoever replays them knows what can be found."""

from __future__ import annotations

import random

from shoal.engine.core.config import CacheConfig
from shoal.engine.core.kv_cache_events import AllBlocksCleared, BlockRemoved, BlocksStored
from shoal.engine.core.kv_cache_manager import KVCacheManager
from shoal.engine.core.request import Request
from shoal.engine.core.sampling_params import SamplingParams

BLOCK = 4


def make_manager(num_blocks: int = 20) -> KVCacheManager:
    manager = KVCacheManager(
        CacheConfig(num_blocks=num_blocks, block_size=BLOCK), max_num_batched_tokens=512
    )
    manager.pool.events = []
    return manager


def compute(manager: KVCacheManager, tokens: list[int]) -> Request | None:
    """Admit a request and compute all of its prompt; None when there is no room."""
    request = Request("r", tokens, sampling_params=SamplingParams(), arrival_time=0.0)
    computed = manager.get_computed_blocks(request)
    if manager.num_lacking_blocks(request, computed, reserve=0) > 0:
        return None
    manager.admit(request, computed)
    assert manager.allocate_slots(request, request.num_tokens - computed.num_tokens) is not None
    manager.publish(request, request.num_tokens)
    request.num_computed_tokens = request.num_tokens
    return request


class Mirror:
    """What a router knows of one worker."""

    def __init__(self) -> None:
        self.hashes: set[bytes] = set()

    def replay(self, manager: KVCacheManager) -> None:
        assert manager.pool.events is not None
        for event in manager.pool.events:
            match event:
                case BlocksStored():
                    assert len(event.token_ids) == BLOCK * len(event.block_hashes)
                    assert self.hashes.isdisjoint(event.block_hashes)
                    self.hashes.update(event.block_hashes)
                case BlockRemoved():
                    self.hashes.remove(event.block_hash)
                case AllBlocksCleared():
                    self.hashes.clear()
        manager.pool.events.clear()


def test_a_prompt_is_one_run_with_its_tokens() -> None:
    manager = make_manager()
    request = compute(manager, list(range(10)))
    assert request is not None
    assert manager.pool.events == [
        BlocksStored(
            block_hashes=request.block_hashes,
            parent_block_hash=None,
            token_ids=list(range(8)),
            group=0,
        )
    ]


def test_a_longer_prompt_tells_only_what_is_new() -> None:
    manager = make_manager()
    compute(manager, list(range(8)))
    assert manager.pool.events is not None
    manager.pool.events.clear()
    longer = compute(manager, list(range(12)))
    assert longer is not None
    (event,) = manager.pool.events
    assert isinstance(event, BlocksStored)
    assert event.parent_block_hash == longer.block_hashes[1]
    assert event.token_ids == [8, 9, 10, 11]


def test_the_same_prompt_again_is_no_news() -> None:
    manager = make_manager()
    compute(manager, list(range(9)))
    assert manager.pool.events is not None
    manager.pool.events.clear()
    compute(manager, list(range(9)))
    assert manager.pool.events == []


def test_a_mirror_knows_what_can_be_found() -> None:
    rng = random.Random(5)
    manager, mirror = make_manager(), Mirror()
    running: list[Request] = []
    seen: set[bytes] = set()
    for _ in range(600):
        action = rng.random()
        if action < 0.5:
            tokens = [rng.randrange(2) for _ in range(rng.randint(1, 30))]
            request = compute(manager, tokens)
            if request is not None:
                running.append(request)
                seen.update(request.block_hashes)
        elif action < 0.98 and running:
            manager.free(running.pop(rng.randrange(len(running))))
        elif action > 0.995:
            manager.pool.forget_cached()
        mirror.replay(manager)
        assert mirror.hashes == {h for h in seen if manager.pool.find((0, h)) is not None}
    assert len(seen) > 50


def test_nobody_listens_nothing_is_kept() -> None:
    manager = make_manager()
    manager.pool.events = None
    for base in range(20):
        request = compute(manager, [base] * 20)
        assert request is not None
        manager.free(request)
    assert manager.pool.events is None
