"""Which attention calls the prefill path takes, and with which tiles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from .gpu import Gpu

MIN_QUERY_LEN = 256
"""Chunks below this are left to the general kernel: a tile of 128 queries would be part empty."""


def prefill_path_takes(
    gpu: Gpu,
    *,
    max_query_len: int,
    head_dim: int,
    block_size: int,
    element_bytes: int,
    plain: bool,
) -> bool:
    """Whether the requests with `MIN_QUERY_LEN` tokens or more are for `prefill_attention`.

    `plain`: the cache has the dtype of the queries, and there is no soft-cap or sink; a sliding
    window is taken. `max_query_len` is a bound of the step: when it is smaller there is nothing to
    launch.
    """
    return (
        plain
        and max_query_len >= MIN_QUERY_LEN
        and hopper_body_takes(
            gpu, head_dim=head_dim, block_size=block_size, element_bytes=element_bytes
        )
    )


def hopper_body_takes(gpu: Gpu, *, head_dim: int, block_size: int, element_bytes: int) -> bool:
    """Whether the body written for Hopper's matrix units and copy engine can compute this.

    A block is one box of the copy engine: at least the 8 rows of its swizzle, at most a key tile.
    """
    return (
        gpu.capability[0] == 9
        and head_dim in (64, 128)
        and element_bytes == 2
        and block_size in (8, 16, 32, 64, 128)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRows:
    """A cache of keys or values as a matrix, in which a block of one head is one box.

    Block b of KV head h begins at row b * block_rows + h * head_rows, column h * head_columns.
    """

    num_rows: int
    num_columns: int
    row_stride: int
    """Elements from one row to the next."""
    block_rows: int
    head_rows: int
    head_columns: int


def cache_rows(shape: tuple[int, ...], strides: tuple[int, ...]) -> CacheRows | None:
    """View [num_blocks, block_size, num_kv_heads, head_dim] with these strides; None: impossible.

    Both usual layouts can: slots first, where a row holds all heads, and heads first, where a head
    has rows of its own. Rows begin at 16 bytes, of 2-byte elements, for the copy engine.
    """
    num_blocks, block_size, num_kv_heads, head_dim = shape
    block_stride, row_stride, head_stride, element_stride = strides
    if element_stride != 1 or row_stride % 8 or row_stride < head_dim or block_stride % row_stride:
        return None
    block_rows = block_stride // row_stride
    if head_stride < row_stride or num_kv_heads == 1:
        head_rows, head_columns = 0, head_stride if num_kv_heads > 1 else 0
    elif head_stride % row_stride == 0:
        head_rows, head_columns = head_stride // row_stride, 0
    else:
        return None
    last_head = num_kv_heads - 1
    num_rows = (num_blocks - 1) * block_rows + last_head * head_rows + block_size
    if num_rows >= 1 << 31:
        return None
    return CacheRows(
        num_rows=num_rows,
        num_columns=last_head * head_columns + head_dim,
        row_stride=row_stride,
        block_rows=block_rows,
        head_rows=head_rows,
        head_columns=head_columns,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HopperPrefill:
    """Tiles of the body written for Hopper."""

    cache: CacheRows
    page: int
    """Rows of a box of the copy engine: the block size."""
    block_m: int = 128
    """Queries of an item, half of them for each warpgroup of matrix units."""
    block_n: int = 128
    """Keys of a step."""
    num_stages: int = 2
    """Key tiles, and value tiles, in shared memory: with the queries 160 KiB at 128 x 128 x 128."""


@lru_cache(maxsize=64)
def hopper_prefill(
    gpu: Gpu,
    *,
    element_bytes: int,
    query_strides: tuple[int, ...],
    cache_shape: tuple[int, ...],
    cache_strides: tuple[tuple[int, ...], tuple[int, ...]],
) -> HopperPrefill | None:
    """The launch of the body written for Hopper; None: its copy engine cannot read these tensors.

    cache_strides: of keys and of values.
    """
    _, block_size, _, head_dim = cache_shape
    if not hopper_body_takes(
        gpu, head_dim=head_dim, block_size=block_size, element_bytes=element_bytes
    ):
        return None
    rows = cache_rows(cache_shape, cache_strides[0])
    heads_are_dense = query_strides[1:] == (head_dim, 1) and query_strides[0] % 8 == 0
    if rows is None or cache_strides[0] != cache_strides[1] or not heads_are_dense:
        return None
    return HopperPrefill(cache=rows, page=block_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillConfig:
    """Tiles of the body that runs on every GPU."""

    block_m: int
    """Queries of a tile."""
    block_n: int
    """Keys of a step."""
    num_warps: int
    num_stages: int


def prefill_config(gpu: Gpu, *, head_dim: int, element_bytes: int) -> PrefillConfig:
    """64 queries and four warps: measured best on an H100, 48 % of its GEMM rate."""
    if element_bytes > 2:
        return PrefillConfig(block_m=32, block_n=32, num_warps=4, num_stages=1)
    if head_dim > 128 or gpu.shared_memory_bytes < 160_000:
        return PrefillConfig(block_m=64, block_n=32, num_warps=4, num_stages=2)
    return PrefillConfig(block_m=64, block_n=64, num_warps=4, num_stages=3)
