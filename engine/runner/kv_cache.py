"""Size of the paged KV cache, and which layers share its memory.

Layer j of every KV cache group shares tensor pair j: a block id belongs to one group at a time,
so groups draw from one pool and no memory is set aside for either. A model with 4 full and 20
window layers has 20 tensor pairs; one with a single group has one pair per layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from shoal.errors import ConfigError

from ..core.config import CacheConfig, SchedulerConfig
from ..core.kv_cache_manager import KVCacheManager
from ..models.config import ModelConfig

T = TypeVar("T")

MAX_SAVE_BYTES = 512 << 20
"""Copied to the host before one step, at most: 10 ms at 50 GB/s (PCIe 5)."""
MAX_DEFAULT_BYTES = 4 << 30
DEFAULT_MEMORY_SHARE = 0.3
"""Of the memory that is free: the page cache and the neighbours want some too."""


def plan_kv_cache(
    model: ModelConfig,
    *,
    scheduler: SchedulerConfig,
    layer_block_bytes: int,
    available_bytes: int,
    kv_cache_bytes: int | None = None,
    block_size: int = 16,
    enable_prefix_caching: bool = True,
) -> CacheConfig:
    """Size the cache: `kv_cache_bytes`, or a share of what is available.

    layer_block_bytes: keys and values of one block in one layer. The default is never more than
    `max_num_seqs` full-length requests can use, and never less than one needs. Raises ConfigError,
    with the numbers, when not even one request of `max_model_len` tokens fits.
    """
    block_bytes = layer_block_bytes * _num_tensor_pairs(model)
    blocks_per_seq = _peak_blocks(model, scheduler, block_size)
    least_bytes = (blocks_per_seq + 1) * block_bytes  # and the null block
    if kv_cache_bytes is None:
        most_bytes = (blocks_per_seq * scheduler.max_num_seqs + 1) * block_bytes
        share = min(MAX_DEFAULT_BYTES, int(available_bytes * DEFAULT_MEMORY_SHARE), most_bytes)
        kv_cache_bytes = max(share, least_bytes)
        limit, name = available_bytes, "free memory"
    else:
        limit, name = kv_cache_bytes, "kv_cache_bytes"
    if least_bytes > limit:
        raise _too_small(
            scheduler,
            least_bytes=least_bytes,
            token_bytes=block_bytes // block_size,
            what=f"{name} is {_mib(limit)}. Lower max_model_len or raise kv_cache_bytes.",
        )
    return CacheConfig(
        num_blocks=kv_cache_bytes // block_bytes,
        block_size=block_size,
        enable_prefix_caching=enable_prefix_caching,
        groups=model.kv_groups,
    )


def fill_memory(
    model: ModelConfig,
    *,
    scheduler: SchedulerConfig,
    layer_block_bytes: int,
    num_bytes: int,
    block_size: int = 16,
    enable_prefix_caching: bool = True,
) -> CacheConfig:
    """A cache of all the memory that a GPU has left for it: what requests do not use now holds
    prefixes for those that come.

    Raises ConfigError, with the numbers, when not even one request of `max_model_len` fits.
    """
    block_bytes = layer_block_bytes * _num_tensor_pairs(model)
    least_bytes = (_peak_blocks(model, scheduler, block_size) + 1) * block_bytes
    if least_bytes > num_bytes:
        raise _too_small(
            scheduler,
            least_bytes=least_bytes,
            token_bytes=block_bytes // block_size,
            what=f"the GPU has {_mib(num_bytes)} for it. Lower max_model_len, or raise"
            " gpu_memory_utilization (or kv_cache_bytes, where it is set).",
        )
    return CacheConfig(
        num_blocks=num_bytes // block_bytes,
        block_size=block_size,
        enable_prefix_caching=enable_prefix_caching,
        groups=model.kv_groups,
    )


def add_host_blocks(
    cache: CacheConfig, model: ModelConfig, *, layer_block_bytes: int, num_bytes: int
) -> CacheConfig:
    """The cache with so much host memory for what is evicted. Raises ConfigError when it holds no
    block."""
    block_bytes = layer_block_bytes * _num_tensor_pairs(model)
    if num_bytes < block_bytes:
        raise ConfigError(
            f"kv_offloading_size is {num_bytes} bytes, but one KV block of {cache.block_size}"
            f" tokens takes {block_bytes}. Raise it, or leave it out."
        )
    return replace(
        cache,
        num_host_blocks=num_bytes // block_bytes,
        max_saves_per_step=max(MAX_SAVE_BYTES // block_bytes, 1),
    )


def share_among_layers(model: ModelConfig, allocate: Callable[[], T]) -> list[T]:
    """What `allocate` makes, for each layer; layers of different groups share them."""
    pairs = [allocate() for _ in range(_num_tensor_pairs(model))]
    seen: Counter[int] = Counter()
    of_layers = []
    for group in model.layer_group:
        of_layers.append(pairs[seen[group]])
        seen[group] += 1
    return of_layers


def _num_tensor_pairs(model: ModelConfig) -> int:
    return max(Counter(model.layer_group).values())


def _peak_blocks(model: ModelConfig, scheduler: SchedulerConfig, block_size: int) -> int:
    """Most blocks that one request can hold, by the scheduler's own arithmetic."""
    smallest = CacheConfig(num_blocks=2, block_size=block_size, groups=model.kv_groups)
    manager = KVCacheManager(smallest, max_num_batched_tokens=scheduler.max_num_batched_tokens)
    return manager.peak_blocks(scheduler.max_model_len)


def _too_small(
    scheduler: SchedulerConfig, *, least_bytes: int, token_bytes: int, what: str
) -> ConfigError:
    return ConfigError(
        f"One request of max_model_len={scheduler.max_model_len} tokens needs a KV cache of"
        f" {_mib(least_bytes)} ({token_bytes} bytes per token), but {what}"
    )


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 20):.0f} MiB"
