"""How sampling is cut over programs, as a table."""

from __future__ import annotations

import pytest

from shoal.kernels.launch.gpu import H100, Gpu
from shoal.kernels.launch.sample import BLOCK, sample_config

L4 = Gpu(capability=(8, 9), num_sms=58, shared_memory_bytes=101_376)


@pytest.mark.parametrize(
    ("num_rows", "vocab_size", "blocks_per_program"),
    [(1, 128_256, 2), (4, 128_256, 2), (16, 128_256, 4), (64, 128_256, 16), (256, 128_256, 16)],
)
def test_few_rows_are_cut_over_more_programs(
    num_rows: int, vocab_size: int, blocks_per_program: int
) -> None:
    assert sample_config(num_rows, vocab_size, H100).blocks_per_program == blocks_per_program


def test_one_row_keeps_every_multiprocessor_busy() -> None:
    config = sample_config(1, 128_256, H100)
    assert 128_256 / BLOCK / config.blocks_per_program > H100.num_sms


@pytest.mark.parametrize(
    ("vocab_size", "num_blocks"), [(1, 1), (256, 1), (257, 2), (128_256, 512), (262_144, 1024)]
)
def test_blocks_of_a_row_are_padded_to_a_power_of_two(vocab_size: int, num_blocks: int) -> None:
    assert sample_config(1, vocab_size, H100).num_blocks_padded == num_blocks


@pytest.mark.parametrize("gpu", [H100, L4])
@pytest.mark.parametrize("num_rows", [1, 7, 256, 4096])
@pytest.mark.parametrize("vocab_size", [1, 300, 32_000, 262_144])
def test_sides_are_powers_of_two(gpu: Gpu, num_rows: int, vocab_size: int) -> None:
    config = sample_config(num_rows, vocab_size, gpu)
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
