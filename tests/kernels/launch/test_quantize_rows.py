"""Programs of row quantization, as a table."""

from __future__ import annotations

import pytest

from shoal.kernels.launch.quantize_rows import MAX_BLOCK, quantize_rows_config


@pytest.mark.parametrize(
    ("dim", "block", "warps"),
    [(1, 128, 1), (128, 128, 1), (129, 256, 1), (2048, 2048, 4), (4096, 4096, 8)],
)
def test_a_program_holds_the_row(dim, block, warps) -> None:
    config = quantize_rows_config(dim)

    assert (config.block, config.num_warps) == (block, warps)


def test_long_rows_are_read_in_blocks() -> None:
    assert quantize_rows_config(14_336).block == MAX_BLOCK
