from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from shoal.engine.core.config import CacheConfig, KVCacheGroup, SchedulerConfig
from shoal.engine.core.sampling_params import SamplingParams


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"max_num_seqs": 0}, "max_num_seqs must be at least 1, got 0"),
        ({"max_num_seqs": 64, "max_num_batched_tokens": 63}, "would starve"),
        ({"queue_timeout_s": 0.0}, "queue_timeout_s must be positive"),
        ({"itl_target_s": 0.0}, "itl_target_s must be positive and finite, got 0.0"),
        ({"itl_target_s": inf}, "itl_target_s must be positive and finite, got inf"),
        ({"itl_target_s": nan}, "itl_target_s must be positive and finite, got nan"),
        ({"max_num_waiting": -1}, "max_num_waiting"),
    ],
)
def test_scheduler_config_says_what_is_wrong(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SchedulerConfig(**kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_blocks": 1}, "num_blocks must be at least 2"),
        ({"num_blocks": 2, "block_size": 0}, "block_size"),
        ({"num_blocks": 2, "groups": ()}, "groups"),
        ({"num_blocks": 2, "num_host_blocks": -1}, "num_host_blocks must be 0 or more"),
        ({"num_blocks": 2, "max_saves_per_step": 0}, "max_saves_per_step must be at least 1"),
        (
            {"num_blocks": 2, "num_host_blocks": 1, "enable_prefix_caching": False},
            "num_host_blocks needs enable_prefix_caching",
        ),
    ],
)
def test_cache_config_says_what_is_wrong(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CacheConfig(**kwargs)


def test_a_window_has_at_least_one_token() -> None:
    with pytest.raises(ValueError, match="sliding_window"):
        KVCacheGroup(sliding_window=0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0), ("min_tokens", 17), ("temperature", -0.1), ("temperature", float("nan")),
        ("top_k", -1), ("top_p", 0.0), ("top_p", 1.1), ("min_p", 1.5), ("presence_penalty", 2.5),
        ("frequency_penalty", -3), ("repetition_penalty", 0.0), ("logit_bias", {5: 101.0}),
        ("logit_bias", {-1: 0.0}), ("logprobs", 21), ("prompt_logprobs", -1), ("stop", ("a", "")),
    ],
)  # fmt: skip
def test_sampling_params_name_the_field_that_is_wrong(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field} must be"):
        SamplingParams(**{field: value})


def test_temperature_zero_is_greedy() -> None:
    assert SamplingParams(temperature=0.0).is_greedy
    assert not SamplingParams().is_greedy
