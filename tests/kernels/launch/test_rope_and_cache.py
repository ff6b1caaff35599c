"""Tiles of `rope_and_cache`, as tables."""

from __future__ import annotations

import pytest

from shoal.kernels.launch.gpu import H100
from shoal.kernels.launch.rope_and_cache import rope_and_cache_launch


@pytest.mark.parametrize("head_dim", [2, 64, 80, 128, 256])
@pytest.mark.parametrize(("q_heads", "kv_heads"), [(1, 1), (9, 3), (32, 8), (64, 8), (40, 40)])
@pytest.mark.parametrize("num_tokens", [1, 64, 4096])
def test_tiles(num_tokens: int, q_heads: int, kv_heads: int, head_dim: int) -> None:
    launch = rope_and_cache_launch(num_tokens, q_heads, kv_heads, head_dim, H100)
    assert launch.half >= head_dim // 2
    assert launch.tokens * launch.heads * 2 * launch.half <= 8192
    for side in (launch.tokens, launch.heads, launch.half, launch.num_warps):
        assert side & (side - 1) == 0


def test_a_decode_step_is_spread_over_the_gpu() -> None:
    launch = rope_and_cache_launch(64, 32, 8, 128, H100)
    assert 64 // launch.tokens * (48 // launch.heads) >= H100.num_sms


def test_a_head_larger_than_a_tile_is_still_one_head() -> None:
    assert rope_and_cache_launch(4, 2, 1, 16_384, H100).heads == 1
