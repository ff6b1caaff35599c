from __future__ import annotations

import pytest
import torch

from shoal.engine.core.config import SchedulerConfig
from shoal.engine.runner.gpu_kv_cache import kv_dtype_of, layer_block_bytes
from shoal.engine.runner.gpu_memory import GpuMemory
from shoal.engine.runner.kv_cache import fill_memory
from shoal.engine.runner.trial_steps import largest_step
from shoal.errors import ConfigError
from tests.engine.runner.fake_model import FakeConfig

GIB = 1 << 30
MODEL = FakeConfig(layer_group=(0, 0, 0), num_kv_heads=2, head_dim=8)


def test_the_cache_gets_what_weights_activations_and_the_rest_leave() -> None:
    memory = GpuMemory(total=80 * GIB, free=64 * GIB, activations=2 * GIB)
    assert memory.kv_cache_bytes(0.9) == 54 * GIB
    assert memory.kv_cache_bytes(1.0) == 62 * GIB


def test_what_others_use_is_not_ours_to_give() -> None:
    alone = GpuMemory(total=80 * GIB, free=64 * GIB, activations=0)
    beside = GpuMemory(total=80 * GIB, free=34 * GIB, activations=0)
    assert alone.kv_cache_bytes(0.9) - beside.kv_cache_bytes(0.9) == 30 * GIB


@pytest.mark.parametrize("free", [0, 9 * GIB, 10 * GIB])
def test_nothing_left_is_refused_with_the_numbers(free: int) -> None:
    memory = GpuMemory(total=80 * GIB, free=free, activations=2 * GIB)
    with pytest.raises(ConfigError, match=r"=0\.9 of 80\.0 GiB.*2\.0 GiB.*Raise"):
        memory.kv_cache_bytes(0.9)


def test_graphs_get_a_part_of_what_stays_free() -> None:
    memory = GpuMemory(total=20 * GIB, free=1, activations=1)
    assert memory.graph_bytes(0.9) == GIB // 2
    assert memory.graph_bytes(0.5) == 2 * GIB
    assert memory.graph_bytes(1.0) == 0


@pytest.mark.parametrize(
    ("name", "num_bytes"),
    # 2 (key, value) * 4 tokens * 2 heads * 8 wide, in 2 bytes, or in 1 and a scale of 4 bytes
    [("auto", 256), ("fp8", 128 + 64), ("int8", 128 + 64)],
)
def test_bytes_of_a_block_in_a_layer(name: str, num_bytes: int) -> None:
    kv_dtype = kv_dtype_of(name, torch.bfloat16)
    assert layer_block_bytes(MODEL, block_size=4, kv_dtype=kv_dtype) == num_bytes


def test_all_of_the_memory_becomes_blocks() -> None:
    config = SchedulerConfig(max_num_seqs=4, max_num_batched_tokens=16, max_model_len=100)
    arguments = {"scheduler": config, "layer_block_bytes": 512, "block_size": 4}
    cache = fill_memory(MODEL, num_bytes=1_536 * 1000 + 7, **arguments)
    assert (cache.num_blocks, cache.groups) == (1000, MODEL.kv_groups)
    assert fill_memory(MODEL, num_bytes=1_536 * 26, **arguments).num_blocks == 26
    with pytest.raises(ConfigError, match=r"max_model_len=100.*gpu_memory_utilization"):
        fill_memory(MODEL, num_bytes=1_536 * 25, **arguments)


@pytest.mark.parametrize(
    ("seqs", "tokens", "length", "expected"),
    [
        (4, 100, 4096, [1, 1, 1, 97]),
        (4, 100, 50, [1, 1, 1, 50]),
        (8, 8, 4096, [1] * 8),
        (1, 20, 4096, [20]),
    ],
)
def test_the_largest_step(seqs: int, tokens: int, length: int, expected: list[int]) -> None:
    config = SchedulerConfig(max_num_seqs=seqs, max_num_batched_tokens=tokens, max_model_len=length)
    assert largest_step(config) == expected
