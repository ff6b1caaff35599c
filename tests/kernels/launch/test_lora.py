"""Programs of the low-rank products, as tables."""

from __future__ import annotations

import pytest

from shoal.kernels.launch.gpu import H100
from shoal.kernels.launch.lora import lora_config


@pytest.mark.parametrize(
    ("max_blocks", "num_slices", "dim", "num_splits"),
    [
        (11, 3, 4096, 8),  # 64 tokens of 8 adapters, q, k and v
        (1, 1, 4096, 8),
        (1, 1, 300, 2),  # no more than blocks along dim
        (30, 2, 4096, 4),
        (264, 3, 4096, 1),  # 4096 tokens: programs enough
    ],
)
def test_few_programs_split_dim(max_blocks, num_slices, dim, num_splits) -> None:
    config = lora_config(
        max_blocks=max_blocks, num_slices=num_slices, max_rank=16, dim=dim, gpu=H100
    )

    assert config.num_splits == num_splits


def test_high_ranks_take_shorter_steps() -> None:
    def block_k(max_rank: int) -> int:
        return lora_config(
            max_blocks=1, num_slices=1, max_rank=max_rank, dim=4096, gpu=H100
        ).block_k

    assert block_k(16) == 2 * block_k(128)
