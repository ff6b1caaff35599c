"""Which calls take the prefill path, and its tiles, as tables."""

from __future__ import annotations

import pytest

from shoal.kernels.launch.gpu import H100, Gpu
from shoal.kernels.launch.paged_attention import attention_path
from shoal.kernels.launch.prefill_attention import (
    MIN_QUERY_LEN,
    CacheRows,
    PrefillConfig,
    cache_rows,
    hopper_prefill,
    prefill_config,
    prefill_path_takes,
)

A100 = Gpu(capability=(8, 0), num_sms=108, shared_memory_bytes=166_912)
L4 = Gpu(capability=(8, 9), num_sms=58, shared_memory_bytes=101_376)
LLAMA = {
    "max_query_len": 8192, "head_dim": 128, "block_size": 16, "element_bytes": 2, "plain": True,
}  # fmt: skip


def test_a_long_chunk_on_hopper_takes_the_path() -> None:
    assert prefill_path_takes(H100, **LLAMA)


@pytest.mark.parametrize(
    "change",
    [
        {"max_query_len": MIN_QUERY_LEN - 1},
        {"head_dim": 96},
        {"head_dim": 256},
        {"block_size": 4},
        {"block_size": 24},
        {"block_size": 256},
        {"element_bytes": 1},
        {"element_bytes": 4},
        {"plain": False},
    ],
)
def test_what_the_general_kernel_keeps(change: dict[str, int]) -> None:
    assert not prefill_path_takes(H100, **(LLAMA | change))


@pytest.mark.parametrize(("window", "plain", "taken"), [(4096, True, True), (4096, False, False)])
def test_windows_take_it_too(window: int, plain: bool, taken: bool) -> None:
    path = attention_path(
        H100, group=4, num_kv_heads=8, head_dim=128, block_size=16, kv_bytes=2, window=window,
        max_query_len=8192, plain=plain,
    )  # fmt: skip
    assert path.prefill_min_query_len == (MIN_QUERY_LEN if taken else None)


def test_other_gpus_do_not_take_the_path() -> None:
    assert not prefill_path_takes(A100, **LLAMA)
    assert not prefill_path_takes(L4, **LLAMA)


@pytest.mark.parametrize("gpu", [H100, A100, L4])
@pytest.mark.parametrize("head_dim", [64, 96, 128, 256])
@pytest.mark.parametrize("element_bytes", [2, 4])
def test_tiles_fit_the_shared_memory(gpu: Gpu, head_dim: int, element_bytes: int) -> None:
    config = prefill_config(gpu, head_dim=head_dim, element_bytes=element_bytes)
    keys_and_values = 2 * config.num_stages * config.block_n
    needed = (config.block_m + keys_and_values) * head_dim * element_bytes
    assert needed <= gpu.shared_memory_bytes


def test_tiles_on_hopper() -> None:
    assert prefill_config(H100, head_dim=128, element_bytes=2) == PrefillConfig(
        block_m=64, block_n=64, num_warps=4, num_stages=3
    )


SLOTS_FIRST = (16 * 8 * 128, 8 * 128, 128, 1)
HEADS_FIRST = (8 * 16 * 128, 128, 16 * 128, 1)


def test_slots_first_rows_hold_all_heads() -> None:
    assert cache_rows((100, 16, 8, 128), SLOTS_FIRST) == CacheRows(
        num_rows=1600, num_columns=1024, row_stride=1024, block_rows=16, head_rows=0,
        head_columns=128,
    )  # fmt: skip


def test_heads_first_each_head_has_rows_of_its_own() -> None:
    assert cache_rows((100, 16, 8, 128), HEADS_FIRST) == CacheRows(
        num_rows=12_800, num_columns=128, row_stride=128, block_rows=128, head_rows=16,
        head_columns=0,
    )  # fmt: skip


def test_keys_beside_values_in_each_block() -> None:
    """[num_blocks, 2, block_size, num_kv_heads, head_dim]: blocks are two blocks apart."""
    rows = cache_rows((3, 16, 8, 128), (2 * 16 * 8 * 128, 8 * 128, 128, 1))
    assert rows is not None
    assert (rows.block_rows, rows.num_rows) == (32, 2 * 32 + 16)


def test_one_head() -> None:
    assert cache_rows((5, 16, 1, 128), (2048, 128, 128, 1)) == CacheRows(
        num_rows=80, num_columns=128, row_stride=128, block_rows=16, head_rows=0, head_columns=0
    )


@pytest.mark.parametrize("strides", [SLOTS_FIRST, HEADS_FIRST])
def test_an_element_is_where_the_strides_say(strides: tuple[int, ...]) -> None:
    rows = cache_rows((100, 16, 8, 128), strides)
    assert rows is not None
    for block, slot, head in ((0, 0, 0), (99, 15, 7), (42, 3, 5)):
        row = block * rows.block_rows + head * rows.head_rows + slot
        at = row * rows.row_stride + head * rows.head_columns
        assert at == block * strides[0] + slot * strides[1] + head * strides[2]
        assert row < rows.num_rows
        assert head * rows.head_columns + 128 <= rows.num_columns


@pytest.mark.parametrize(
    "strides",
    [
        (16 * 8 * 128, 8 * 128, 128, 2),  # every other element
        (16 * 8 * 128 + 8, 8 * 128, 128, 1),  # blocks that begin inside a row
        (16 * 1028, 1028, 128, 1),  # rows that do not begin at 16 bytes
        (8 * 16 * 128 + 64, 128, 16 * 128 + 64, 1),  # heads that begin inside a row
    ],
)
def test_layouts_that_are_no_matrix(strides: tuple[int, ...]) -> None:
    assert cache_rows((100, 16, 8, 128), strides) is None


def test_more_rows_than_a_coordinate_can_count() -> None:
    assert cache_rows((1 << 24, 16, 8, 128), HEADS_FIRST) is None


def test_hopper_takes_what_its_copy_engine_can_read() -> None:
    def config(**changes: object) -> object:
        arguments: dict[str, object] = {
            "element_bytes": 2, "query_strides": (4096, 128, 1),
            "cache_shape": (100, 16, 8, 128), "cache_strides": (SLOTS_FIRST, SLOTS_FIRST),
        }  # fmt: skip
        return hopper_prefill(H100, **(arguments | changes))  # type: ignore[arg-type]

    assert config() is not None
    assert config(query_strides=(6144, 128, 1)) is not None  # a part of [q; k; v]
    assert config(query_strides=(4096, 1, 32)) is None
    assert config(query_strides=(4100, 128, 1)) is None
    assert config(cache_strides=(SLOTS_FIRST, HEADS_FIRST)) is None
    assert config(element_bytes=4) is None
    assert config(cache_shape=(100, 4, 8, 128)) is None
