"""Words and programs of block copies, as tables."""

from __future__ import annotations

import pytest

from shoal.kernels.launch.copy_blocks import copy_blocks_config


@pytest.mark.parametrize(
    ("block_bytes", "alignment", "word"),
    [(32_768, 16, 8), (32_768, 4, 4), (20, 16, 4), (6, 16, 2), (7, 16, 1), (8, 1, 1)],
)
def test_words_divide_sizes_and_addresses(block_bytes: int, alignment: int, word: int) -> None:
    launch = copy_blocks_config(block_bytes, 10, alignment, over_the_bus=False)
    assert launch.word_bytes == word


@pytest.mark.parametrize("block_bytes", [1, 96, 8192, 8193, 32_768])
def test_on_the_device_each_tile_has_its_program(block_bytes: int) -> None:
    launch = copy_blocks_config(block_bytes, 10, 1, over_the_bus=False)
    tiles = -(-block_bytes // launch.block)
    assert launch.num_programs == 10 * tiles


def test_over_the_bus_most_multiprocessors_stay_free() -> None:
    launch = copy_blocks_config(32_768, 10_000, 16, over_the_bus=True)
    assert launch.num_programs <= 16
    assert copy_blocks_config(64, 2, 16, over_the_bus=True).num_programs == 2
