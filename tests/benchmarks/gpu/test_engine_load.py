"""The load of the GPU engine's benchmark, on the CPU and with a clock for CUDA events."""

from __future__ import annotations

import time

import pytest
import torch

from shoal.benchmarks.gpu import engine_load
from shoal.engine.core.config import CacheConfig, SchedulerConfig
from shoal.engine.models.config import ModelConfig
from shoal.engine.models.loader import dummy_model
from shoal.engine.models.rope import RopeConfig
from shoal.engine.runner.cuda_backend import CudaBackend
from shoal.engine.runner.gpu_kv_cache import allocate_kv_caches
from shoal.engine.runner.step_ranges import no_ranges

CPU = torch.device("cpu")
MODEL = ModelConfig(
    vocab_size=97,
    hidden_size=32,
    intermediate_size=48,
    num_layers=1,
    num_q_heads=4,
    num_kv_heads=2,
    head_dim=8,
    max_position_embeddings=128,
    rms_norm_eps=1e-5,
    rope=RopeConfig(),
    tie_word_embeddings=True,
)


class HostEvent:
    """What a CUDA event is to code that waits for nothing."""

    def __init__(self) -> None:
        self._at = time.perf_counter()

    def elapsed_time(self, later: HostEvent) -> float:
        return (later._at - self._at) * 1e3


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> CudaBackend:
    monkeypatch.setattr(engine_load, "_recorded_event", HostEvent)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    cache = CacheConfig(num_blocks=41)
    return CudaBackend(
        dummy_model(MODEL, dtype=torch.float32, device=CPU),
        allocate_kv_caches(MODEL, cache, kv_dtype=torch.float32, device=CPU),
        cache=cache,
        scheduler=SCHEDULER,
        device=CPU,
    )


SCHEDULER = SchedulerConfig(
    max_num_seqs=4, max_num_batched_tokens=64, max_model_len=64, itl_target_s=10.0
)


def test_every_token_is_counted_and_decode_steps_are_told_apart(backend: CudaBackend) -> None:
    prompts = [[i + j for j in range(10)] for i in range(4)]
    figures = engine_load.measure_load(
        backend, SCHEDULER, CacheConfig(num_blocks=41), prompts=prompts, output_len=6
    )
    assert figures["output_tokens_per_s"] == pytest.approx(24 / figures["seconds"], rel=0.3)
    # The prompts fit one step, which samples the first tokens; five more follow.
    assert figures["num_steps"] == 6
    assert 3 <= figures["num_decode_steps"] <= 5
    assert figures["host_us_per_decode_step"] > 0
    assert figures["device_gap_us"] > 0
    assert backend.ranges is no_ranges


def test_a_refused_request_ends_the_benchmark(backend: CudaBackend) -> None:
    with pytest.raises(RuntimeError, match="refused"):
        engine_load.measure_load(
            backend, SCHEDULER, CacheConfig(num_blocks=41), prompts=[[1] * 64], output_len=6
        )
