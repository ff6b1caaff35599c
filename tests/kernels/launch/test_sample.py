"""How sampling is cut over programs, as a table."""

from __future__ import annotations

import pytest

from shoal.kernels.launch.gpu import H100
from shoal.kernels.launch.sample import BLOCK, sample_config


def test_one_row_is_read_by_many_multiprocessors() -> None:
    config = sample_config(128_256)
    assert 128_256 / BLOCK / config.blocks_per_program > H100.num_sms / 3


@pytest.mark.parametrize(
    ("vocab_size", "num_blocks"), [(1, 1), (256, 1), (257, 2), (128_256, 512), (262_144, 1024)]
)
def test_blocks_of_a_row_are_padded_to_a_power_of_two(vocab_size: int, num_blocks: int) -> None:
    assert sample_config(vocab_size).num_blocks_padded == num_blocks


@pytest.mark.parametrize("vocab_size", [1, 300, 1_000, 4_000, 8_192, 32_000, 128_256, 262_144])
def test_sides_are_powers_of_two(vocab_size: int) -> None:
    config = sample_config(vocab_size)
    for side in (
        config.blocks_per_program,
        config.num_blocks_padded,
        config.blocks_per_turn,
        config.max_candidates,
        config.max_wide_candidates,
        config.samples_per_block,
        config.stats_warps,
        config.row_warps,
        config.logprob_warps,
    ):
        assert side > 0
        assert side & (side - 1) == 0
    assert config.num_blocks_padded * BLOCK >= vocab_size
    assert 2 <= config.samples_per_block <= BLOCK
    # The memory of a row's candidates is that of a wide row's.
    assert config.max_wide_candidates >= min(config.max_candidates, vocab_size)
