"""The torch backend with host blocks, and how many there are."""

from __future__ import annotations

import random

import pytest

from shoal.engine.core.config import CacheConfig
from shoal.engine.runner.kv_cache import MAX_SAVE_BYTES, add_host_blocks
from shoal.errors import ConfigError
from tests.engine.runner.fake_model import VOCAB, FakeConfig, FakeModel, expected_tokens
from tests.engine.runner.running_engine import RunningEngine


@pytest.mark.parametrize("overlaps", [False, True])
@pytest.mark.parametrize("windows", [(None,), (None, 6)])
def test_prefixes_come_back_with_the_right_keys_and_values(
    windows: tuple[int | None, ...], overlaps: bool
) -> None:
    rng = random.Random(1)
    engine = RunningEngine(
        FakeModel(windows), num_blocks=20 * len(windows), num_host_blocks=60, overlaps=overlaps
    )
    stems = [[rng.randrange(VOCAB) for _ in range(24)] for _ in range(5)]
    prompts = {f"r{i}": [*rng.choice(stems), rng.randrange(VOCAB)] for i in range(30)}
    for request_id, prompt in prompts.items():
        engine.add(request_id, prompt, max_tokens=5)
        for _ in range(3):
            engine.step()
    for request_id, output in engine.run().items():
        assert output == expected_tokens(prompts[request_id], 5, windows=windows)
    assert engine.scheduler.make_stats().external_prefix_cache_hits > 50


def test_host_blocks_are_as_large_as_the_devices() -> None:
    cache = CacheConfig(num_blocks=10)
    block_bytes = 2 * 1000  # two layers
    model = FakeConfig(layer_group=(0, 0))
    found = add_host_blocks(cache, model, layer_block_bytes=1000, num_bytes=7 * block_bytes + 1)
    assert found.num_host_blocks == 7
    assert found.max_saves_per_step == MAX_SAVE_BYTES // block_bytes
    assert found.num_blocks == 10
    with pytest.raises(ConfigError, match="one KV block of 16 tokens takes 2000"):
        add_host_blocks(cache, model, layer_block_bytes=1000, num_bytes=1999)
