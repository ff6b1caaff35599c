from __future__ import annotations

from typing import Any

import pytest
import torch

from shoal.engine.core.config import CacheConfig, KVCacheGroup, SchedulerConfig
from shoal.engine.runner.kv_cache import plan_kv_cache, share_among_layers
from shoal.engine.runner.torch_backend import layer_block_bytes
from shoal.errors import ConfigError
from tests.engine.runner.fake_model import FakeConfig

MIB = 1 << 20
# 2 (key and value) * 4 tokens * 2 heads * 8 wide * 4 bytes * 3 layers = 1,536 bytes per block
MODEL = FakeConfig(layer_group=(0, 0, 0), num_kv_heads=2, head_dim=8)
SCHEDULER = SchedulerConfig(max_num_seqs=4, max_num_batched_tokens=16, max_model_len=100)


def plan(**changes: Any) -> CacheConfig:
    arguments = {
        "scheduler": SCHEDULER,
        "layer_block_bytes": 512,
        "available_bytes": 100 * MIB,
        "block_size": 4,
        **changes,
    }
    return plan_kv_cache(arguments.pop("model", MODEL), **arguments)


def test_bytes_of_a_block_in_a_layer() -> None:
    sizes = {"num_kv_heads": 2, "head_dim": 8}
    assert layer_block_bytes(block_size=4, dtype=torch.float32, **sizes) == 512
    assert layer_block_bytes(block_size=16, dtype=torch.bfloat16, **sizes) == 1_024


def test_groups_share_memory() -> None:
    mixed = FakeConfig(layer_group=(0, 1, 1, 0, 1), num_kv_heads=2, head_dim=8)
    assert plan(model=mixed, kv_cache_bytes=1_536 * 50).num_blocks == 50


def test_given_bytes_are_used() -> None:
    assert plan(kv_cache_bytes=1_536 * 50).num_blocks == 50


def test_the_default_is_no_more_than_the_batch_can_use() -> None:
    """100 tokens are 25 blocks; 4 requests and the null block are 101."""
    assert plan().num_blocks == 101


def test_the_default_is_a_share_of_free_memory() -> None:
    assert plan(available_bytes=1_536 * 200).num_blocks == 60


def test_the_default_holds_at_least_one_full_request() -> None:
    assert plan(available_bytes=1_536 * 30).num_blocks == 26


@pytest.mark.parametrize("sizes", [{"kv_cache_bytes": 1_536 * 25}, {"available_bytes": 1_536 * 25}])
def test_too_little_for_one_request_is_refused_with_the_numbers(sizes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"max_model_len=100.*384 bytes per token"):
        plan(**sizes)


def test_window_groups_need_only_their_window() -> None:
    windows = FakeConfig(kv_groups=(KVCacheGroup(sliding_window=8),))
    # (8 - 1 + 16) tokens touch at most 7 blocks; 4 requests and the null block
    assert plan(model=windows).num_blocks == 29


def test_layers_of_different_groups_get_the_same_memory() -> None:
    mixed = FakeConfig(layer_group=(0, 1, 1, 0, 1))
    made: list[object] = []

    def allocate() -> object:
        made.append(object())
        return made[-1]

    of_layers = share_among_layers(mixed, allocate)
    assert of_layers == [made[0], made[0], made[1], made[1], made[2]]
    assert len(made) == 3
