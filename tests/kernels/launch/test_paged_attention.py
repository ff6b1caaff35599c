"""Tiles and splits of paged attention, as tables."""

from __future__ import annotations

import pytest

from shoal.kernels.launch.gpu import H100, Gpu
from shoal.kernels.launch.paged_attention import (
    CHUNK_PARTIAL_ROWS,
    TileShape,
    attention_path,
    chunk_launch,
    chunk_shape,
    decode_launch,
    decode_shape,
)

SHAPE = TileShape(min_query_len=1, max_query_len=16, tokens=4, split_size=1024, row_budget=32)


@pytest.mark.parametrize(
    ("query_len", "seq_len", "keys"),
    [
        (1, 1, 1024),
        (1, 1024, 1024),
        (1, 32 * 1024, 1024),  # 32 splits, as many as the budget has
        (1, 32 * 1024 + 1, 2048),
        (1, 131072, 4096),
        (4, 8 * 1024, 1024),
        (4, 8 * 1024 + 1, 2048),
        (16, 5000, 4096),
        (33, 5000, 8192),  # one split
    ],
)
def test_split_keys(query_len: int, seq_len: int, keys: int) -> None:
    assert SHAPE.split_keys(query_len, seq_len) == keys
    assert -(-seq_len // keys) <= SHAPE.max_splits(query_len)


@pytest.mark.parametrize("splits", [True, False])
@pytest.mark.parametrize("num_reqs", [1, 3, 256])
@pytest.mark.parametrize("seq_len", [1, 1024, 5000, 131072])
@pytest.mark.parametrize("query_len", [1, 3, 4, 5, 16])
def test_bounds_hold_for_the_largest_batch(
    query_len: int, seq_len: int, num_reqs: int, splits: bool
) -> None:
    shape = TileShape(
        min_query_len=1, max_query_len=16, tokens=4, split_size=1024, row_budget=32, splits=splits
    )
    bounds = num_reqs, num_reqs * query_len, query_len, seq_len
    num_splits = -(-seq_len // shape.split_keys(query_len, seq_len)) if splits else 1
    tiles = num_reqs * -(-query_len // 4)
    assert shape.max_items(*bounds) >= tiles * num_splits
    wanted = num_reqs * query_len * num_splits if num_splits > 1 else 0
    assert shape.max_partial_rows(*bounds) >= wanted


def test_partial_results_stay_small() -> None:
    """Llama-3.1-8B with room for 128k tokens: 256 decodes, then a full prefill step."""
    row_bytes = 32 * (128 + 1) * 4
    decodes = decode_shape(group=4, num_kv_heads=8, kv_bytes=2, window=None)
    assert decodes.max_partial_rows(256, 256, 1, 131072) * row_bytes < 150e6
    chunks = chunk_shape(group=4, num_kv_heads=8, window=None, max_query_len=1 << 30)
    assert chunks.max_partial_rows(256, 8192, 8192, 131072) == CHUNK_PARTIAL_ROWS


def test_short_windows_are_not_split() -> None:
    assert not decode_shape(group=8, num_kv_heads=8, kv_bytes=2, window=128).splits
    assert decode_shape(group=8, num_kv_heads=8, kv_bytes=2, window=4096).splits


@pytest.mark.parametrize(
    ("group", "tokens", "rows"), [(1, 16, 16), (3, 5, 16), (4, 4, 16), (16, 1, 16), (20, 1, 32)]
)
def test_decode_tiles(group: int, tokens: int, rows: int) -> None:
    shape = decode_shape(group=group, num_kv_heads=2, kv_bytes=2, window=None)
    launch = decode_launch(
        H100, group=group, num_kv_heads=2, head_dim=128, kv_bytes=2, max_items=10
    )
    assert (shape.tokens, launch.block_m) == (tokens, rows)
    assert shape.tokens * group <= launch.block_m
    assert shape.split_size % launch.block_n == 0


A100 = Gpu(capability=(8, 0), num_sms=108, shared_memory_bytes=166_912)
L4 = Gpu(capability=(8, 9), num_sms=58, shared_memory_bytes=101_376)


@pytest.mark.parametrize("gpu", [H100, A100, L4])
@pytest.mark.parametrize("kv_bytes", [1, 2])
@pytest.mark.parametrize("head_dim", [64, 128, 256])
@pytest.mark.parametrize("choose", [decode_launch, chunk_launch])
def test_tiles_fit_shared_memory(choose, head_dim: int, kv_bytes: int, gpu: Gpu) -> None:  # type: ignore[no-untyped-def]
    launch = choose(gpu, group=8, num_kv_heads=1, head_dim=head_dim, kv_bytes=kv_bytes, max_items=1)
    tiles = 2 * launch.block_n * head_dim * kv_bytes * (launch.num_stages // 2 + 1)
    assert tiles + launch.block_m * head_dim * 2 <= gpu.shared_memory_bytes


def test_llama_on_hopper() -> None:
    """What was measured best."""
    shapes = {"group": 4, "num_kv_heads": 8, "head_dim": 128, "max_items": 10_000}
    tiles = [decode_launch(H100, kv_bytes=kv_bytes, **shapes) for kv_bytes in (2, 1)]
    assert [(t.block_m, t.block_n, t.num_warps, t.num_stages) for t in tiles] == [
        (16, 64, 4, 5),
        (16, 128, 4, 5),
    ]
    assert tiles[0].num_programs == 132 * 16
    chunk = chunk_launch(H100, kv_bytes=2, **shapes)
    assert (chunk.block_m, chunk.block_n, chunk.num_warps, chunk.num_stages) == (64, 64, 4, 5)


def test_no_more_programs_than_work() -> None:
    launch = decode_launch(H100, group=4, num_kv_heads=8, head_dim=128, kv_bytes=2, max_items=3)
    assert launch.num_programs == 24


@pytest.mark.parametrize(
    ("max_query_len", "plain", "shapes", "prefill"),
    [(1, True, 1, None), (16, True, 1, None), (17, True, 2, None), (255, True, 2, None),
     (256, True, 2, 256), (8192, False, 2, None)],
)  # fmt: skip
def test_path(max_query_len: int, plain: bool, shapes: int, prefill: int | None) -> None:
    path = attention_path(
        H100, group=4, num_kv_heads=8, head_dim=128, block_size=16, kv_bytes=2, window=None,
        max_query_len=max_query_len, plain=plain,
    )  # fmt: skip
    assert len(path.shapes) == shapes
    assert path.prefill_min_query_len == prefill
    if prefill is not None:
        assert path.shapes[-1].max_query_len == prefill - 1
