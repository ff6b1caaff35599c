"""Tiles of `rope_and_cache`, as tables."""

from __future__ import annotations

import pytest

from shoal.kernels.launch.gpu import H100
from shoal.kernels.launch.rope_and_cache import rope_and_cache_config


@pytest.mark.parametrize("head_dim", [2, 64, 80, 128, 256])
@pytest.mark.parametrize("kv_heads", [1, 3, 8, 40])
def test_tiles(kv_heads: int, head_dim: int) -> None:
    launch = rope_and_cache_config(kv_heads, head_dim)
    assert head_dim <= 2 * launch.half
    assert launch.tokens * launch.heads * 2 * launch.half <= 1024
    for side in (launch.tokens, launch.heads, launch.half, launch.num_warps):
        assert side & (side - 1) == 0


def test_a_decode_step_is_spread_over_the_gpu() -> None:
    launch = rope_and_cache_config(8, 128)
    programs = 64 // launch.tokens * (48 // launch.heads)
    assert programs > H100.num_sms


def test_a_head_larger_than_a_tile_is_still_one_head() -> None:
    assert rope_and_cache_config(1, 16_384).heads == 1
