"""The real core: what building it refuses, and one question to a real model."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from shoal.engine.async_engine import AsyncEngine
from shoal.engine.config import EngineConfig
from shoal.engine.core.config import CacheConfig, SchedulerConfig
from shoal.engine.core.output import ModelRunnerOutput, SchedulerOutput
from shoal.engine.core.sampling_params import SamplingParams
from shoal.engine.core_builder import build_core, warm_up
from shoal.engine.protocol import Load
from shoal.engine.sources.model_files import ModelFiles
from shoal.engine.sources.progress import NoProgress
from shoal.errors import ConfigError
from tests.builders import FakeRunner


class RecordingRunner(FakeRunner):
    """Keeps the number of tokens of each step."""

    def __init__(self, *, block_size: int) -> None:
        super().__init__(block_size=block_size)
        self.steps: list[int] = []

    def execute_model(self, out: SchedulerOutput) -> ModelRunnerOutput:
        self.steps.append(out.total_num_scheduled_tokens)
        return super().execute_model(out)


def test_warm_up_prefills_and_decodes_and_leaves_no_request() -> None:
    runner = RecordingRunner(block_size=16)
    warm_up(runner, SchedulerConfig(), CacheConfig(num_blocks=10))
    assert runner.steps == [8, 1, 0]
    assert runner.tokens == {}


def test_warm_up_fits_the_smallest_engine() -> None:
    runner = FakeRunner(block_size=1)
    config = SchedulerConfig(max_num_seqs=1, max_num_batched_tokens=1, max_model_len=2)
    warm_up(runner, config, CacheConfig(num_blocks=3, block_size=1))
    assert runner.tokens == {}


def test_a_context_beyond_the_model_is_refused_with_both_numbers(smollm2: ModelFiles) -> None:
    config = EngineConfig(model="smollm2", max_model_len=100_000)
    with pytest.raises(ConfigError, match=r"100000.*8192"):
        build_core(Load(config, smollm2), NoProgress())


def test_the_cpu_kernels_have_no_torch_profiler(smollm2: ModelFiles) -> None:
    config = EngineConfig(model="smollm2", max_model_len=64, torch_profiler_dir="/tmp")
    with pytest.raises(ConfigError, match="torch_profiler_dir needs device cuda, or dtype float32"):
        build_core(Load(config, smollm2), NoProgress())


async def test_a_real_model_answers(smollm2: ModelFiles) -> None:
    config = EngineConfig(model=str(smollm2.path), served_model_name="smol", max_model_len=512)
    engine = AsyncEngine(config)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(engine.shutdown)
        await engine.start()
        assert engine.model_name == "smol"
        assert engine.max_model_len == 512
        messages = [{"role": "user", "content": "What is the capital of Japan?"}]
        prompt = engine.tokenizer.apply_chat_template(messages)
        text, finish_reason = "", None
        async for output in engine.generate(
            engine.tokenizer.encode(prompt, add_special_tokens=False),
            SamplingParams(max_tokens=20, temperature=0.0),
            request_id="capital",
        ):
            text += output.text
            finish_reason = output.finish_reason
        assert text == "The capital of Japan is Tokyo."
        assert finish_reason == "stop"


async def test_a_configuration_alone_is_served_with_random_weights(tmp_path: Path) -> None:
    config = {
        "architectures": ["Qwen3ForCausalLM"], "vocab_size": 600, "hidden_size": 32,
        "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-6,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    engine = AsyncEngine(EngineConfig(model=str(tmp_path), load_format="dummy"))
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(engine.shutdown)
        await engine.start()
        assert engine.model_name == tmp_path.name
        prompt = engine.tokenizer.encode("Hello")
        assert len(prompt) == 5
        text = ""
        async for output in engine.generate(
            prompt, SamplingParams(max_tokens=6, seed=1), request_id="r"
        ):
            text += output.text
        assert text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kv_cache_dtype": "fp8"}, "fp8"),
        ({"load_format": "dummy", "kv_cache_dtype": "int8"}, "kv_cache_dtype"),
        ({"device": "cuda", "quantization": "int8"}, "quantization"),
    ],
)
def test_formats_that_a_device_has_not_are_refused(
    changes: dict[str, Any], message: str, smollm2: ModelFiles
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_core(Load(EngineConfig(model="smollm2", **changes), smollm2), NoProgress())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_cuda_is_refused_with_what_to_do(smollm2: ModelFiles) -> None:
    with pytest.raises(ConfigError, match=r"finds no CUDA GPU.*--device cpu"):
        build_core(Load(EngineConfig(model="smollm2", device="cuda"), smollm2), NoProgress())
