"""Programs that sort tokens by expert, as tables."""

from __future__ import annotations

import pytest

from shoal.kernels.launch.moe_routing import MANY_PAIRS, SMALL_PAIRS, permute_config, topk_config


@pytest.mark.parametrize(
    ("num_tokens", "num_experts", "tokens", "warps"),
    [(1, 8, 1, 1), (4096, 128, 1, 1), (4097, 128, 2, 1), (100_000, 128, 8, 1), (1, 2048, 1, 2)],
)
def test_a_warp_for_each_token_while_all_run_at_once(
    num_tokens, num_experts, tokens, warps
) -> None:
    config = topk_config(num_tokens, num_experts)

    assert (config.tokens, config.num_warps) == (tokens, warps)
    assert config.experts >= num_experts


@pytest.mark.parametrize("num_pairs", [1, 31, 32, 33, SMALL_PAIRS])
def test_few_pairs_are_one_program(num_pairs) -> None:
    assert permute_config(num_pairs, 128).chunk >= num_pairs


@pytest.mark.parametrize("num_experts", [1, 8, 128, 300])
@pytest.mark.parametrize("num_pairs", [1, SMALL_PAIRS + 1, MANY_PAIRS, 100_000])
def test_tiles_stay_in_registers(num_pairs, num_experts) -> None:
    config = permute_config(num_pairs, num_experts)

    assert config.experts >= max(num_experts, 32)
    assert config.chunk % config.strip == 0
    threads = 32 * config.num_warps
    assert config.chunks * config.experts <= 64 * threads
    assert config.chunk * config.strip <= 64 * threads
